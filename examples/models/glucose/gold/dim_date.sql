-- description: a row per day; a day is made again when a reading of it has changed
-- materialized: incremental
-- partition: reading_date
-- changes_from: silver.fct_glucose_readings(reading_date)
-- tags: glucose, daily
-- tests:
--   - unique: reading_date
--   - not_null: [reading_date, readings]
SELECT
    reading_date,
    count(*) AS readings,
    round(avg(glucose_mg_dl), 1) AS avg_glucose_mg_dl,
    min(glucose_mg_dl) AS min_glucose_mg_dl,
    max(glucose_mg_dl) AS max_glucose_mg_dl,
    round(stddev_samp(glucose_mg_dl), 1) AS stddev_glucose_mg_dl,
    round(100 * avg(is_in_range), 1) AS time_in_range_pct,
    round(100 * avg(CAST(glucose_mg_dl < 70 AS INTEGER)), 1) AS time_below_range_pct,
    round(100 * avg(CAST(glucose_mg_dl > 180 AS INTEGER)), 1) AS time_above_range_pct,
    round(3.31 + 0.02392 * avg(glucose_mg_dl), 2) AS glucose_management_indicator_pct
FROM silver.fct_glucose_readings
GROUP BY reading_date
