-- description: a row per reading, with its day, hour, category and what has changed since the one before
-- materialized: incremental
-- unique_key: entry_id
-- tags: glucose
-- columns:
--   glucose_category:
--     description: by the usual limits
--     tests:
--       - accepted_values: [hypoglycemia, in_range, hyperglycemia_mild, hyperglycemia_severe]
--   hour_of_day: {tests: [not_null]}
-- tests:
--   - sql: SELECT * FROM {{ this }} WHERE glucose_mg_dl NOT BETWEEN 20 AND 600 OR hour_of_day NOT BETWEEN 0 AND 23
SELECT
    *,
    CAST(reading_timestamp AS DATE) AS reading_date,
    hour(reading_timestamp) AS hour_of_day,
    dayofweek(reading_timestamp) AS day_of_week,
    dayname(reading_timestamp) AS day_name,
    CASE
        WHEN glucose_mg_dl < 70 THEN 'hypoglycemia'
        WHEN glucose_mg_dl <= 180 THEN 'in_range'
        WHEN glucose_mg_dl <= 250 THEN 'hyperglycemia_mild'
        ELSE 'hyperglycemia_severe'
    END AS glucose_category,
    CAST(glucose_mg_dl BETWEEN 70 AND 180 AS INTEGER) AS is_in_range,
    glucose_mg_dl - lag(glucose_mg_dl) OVER readings AS glucose_change_mg_dl,
    date_diff('minute', lag(reading_timestamp) OVER readings, reading_timestamp) AS minutes_since_last_reading
FROM stg_entries
WINDOW readings AS (PARTITION BY device ORDER BY reading_timestamp, entry_id)
