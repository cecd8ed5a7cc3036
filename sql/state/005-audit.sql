CREATE TABLE audit_log (
    id      @IDENTITY@,
    at_us   BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    via     TEXT NOT NULL,
    action  TEXT NOT NULL,
    object  @KEY@ NOT NULL,
    detail  TEXT NOT NULL
);
CREATE INDEX audit_log_by_object ON audit_log (object, id);

-- Facts about this state itself.
CREATE TABLE settings (
    name   @KEY@ NOT NULL PRIMARY KEY,
    value  TEXT NOT NULL
);
