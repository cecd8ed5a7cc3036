#ifndef DUCT_KILLPOINT_H
#define DUCT_KILLPOINT_H

/*
 * Places where a crash test ends the process as kill -9 would. When the environment variable DUCT_KILL_POINT is
 * "name:N", the N-th call with that name raises SIGKILL; otherwise a call costs one load and one branch. Thread-safe.
 *
 * DUCT_PAUSE_POINT="name:N:PATH" makes the N-th call create PATH.reached and wait until PATH exists.
 *
 * Points of src/lake:
 *   commit-planned    files are written, no lock was taken
 *   file-written      a data or delete file is complete, nothing of it was synced
 *   file-synced       it and its folders are durable, the catalog knows nothing of it
 *   file-sent         it is in object storage, the catalog knows nothing of it
 *   commit-begin      files are written, nothing of the catalog transaction was sent
 *   turn-taken        Postgres: it lost a commit and holds the lock of all that share the catalog
 *   commit-statement  SQLite: after each statement inside the transaction
 *   commit-piece-sent Postgres: a string of a long commit was sent, not the last one
 *   commit-sent       Postgres: the whole commit was sent, nothing of its end was read
 *   commit-done       the transaction is durable, nobody was told
 *   copy-begun        the checkpoint says "copying", nobody was told
 *   state-set         a table is marked to be copied again, nobody was told
 *   epoch-raised      older owners are fenced, the model is not read yet
 *   orphans-slice     `lake orphans --delete` is about to look again and remove some files
 *   orphans-locked    it holds the lock of all commits, and is about to remove them
 * and of src/destination/ducklake:
 *   flush-written     files of inlined rows are durable, on a thread of their own; commits go on meanwhile
 *   index-files-read  a key index is being built: the rows in files are in it, those in the catalog are not
 *   window-settled    a part of a large transaction was written aside, more of it comes
 * and of src/destination/pgstream, besides commit-begin, commit-sent, commit-done and epoch-raised:
 *   group-sent        a part of a large group is inside the transaction, more of it comes
 *   rows-sent         all events are inside the transaction, nothing of its end was sent
 * and of src/destination/grpc:
 *   group-sent        the receiver has a part of a batch, more of it comes
 *   commit-begin      all parts but the last were sent
 *   commit-sent       the receiver has accepted the batch, nobody here has noted it
 *   commit-done       the batch is over, and position_file says so
 *   epoch-raised      the receiver has said how far it is
 * and of src/stream:
 *   stream-claimed    messages are claimed, nobody was told
 *   ingest-begin      a part of a batch has come, nothing was sent to the stream's Postgres
 *   ingest-part       a part is there, the sender was not told
 *   ingest-done       a batch is in the stream, the sender was not told
 * and of src/destination/duckdb:
 *   duckdb-statement  a table's rows were deleted, the new ones are not inserted
 *   duckdb-applied    everything is in the transaction, which is not committed
 *   duckdb-committed  the transaction is durable, nobody was told
 * and of src/export:
 *   export-written     a day's file is in the bucket and was looked at, the catalog knows nothing of it
 * and of src/flow:
 *   replay-read       all changes of a replay are in the group, which is not committed
 *   replay-committed  it is
 * and of src/source/postgres:
 *   backfill-published a table's copy is durable, nobody has written down that it is
 *   backfill-kept      that is written down
 * and of src/copy:
 *   copy-written      a table's files are written aside, nothing of them was checked
 *   copy-verified     they were checked, nothing of them is in the lake
 *   copy-committed    they are, nobody was told
 * and of src/ingest:
 *   ingest-planned    rows are written aside, nothing of the commit was sent
 *   ingest-committed  the commit is durable, nobody was told
 * and of src/model:
 *   model-staged      the rows of a model are computed, the lake knows nothing of them
 *   model-written     they are in its transaction, not tested
 *   model-checked     they are tested, the transaction is not committed
 *   model-committed   it is, nobody was told
 * and of src/run:
 *   run-submitted     a command's run is recorded, nobody has begun it
 *   run-taken-over    a sql run's number is in the target database, its first transaction has not begun
 */
void duct_kill_point(const char *name);

#endif
