-- description: readings of the glucose sensor, as Nightscout has them, with names and units
-- materialized: view
-- tags: glucose
-- columns:
--   entry_id: {description: the reading's id in Nightscout, tests: [unique, not_null]}
--   glucose_mg_dl: {description: mg/dl, tests: [not_null]}
--   direction: trend arrow
SELECT
    _id AS entry_id,
    sgv AS glucose_mg_dl,
    epoch_ms(date) AS reading_timestamp,
    date_string AS timestamp_iso,
    direction,
    trend,
    device,
    type AS reading_type,
    utc_offset AS utc_offset_minutes
FROM raw.entries
WHERE sgv BETWEEN 20 AND 600
