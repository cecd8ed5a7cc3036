-- description: readings with what their day was like, for dashboards
-- materialized: incremental
-- unique_key: entry_id
-- tags: glucose
-- tests:
--   - relationships: {column: reading_date, to: dim_date, field: reading_date}
SELECT
    f.entry_id,
    f.reading_timestamp,
    f.reading_date,
    f.hour_of_day,
    f.day_name,
    f.glucose_mg_dl,
    f.glucose_category,
    f.glucose_change_mg_dl,
    f.minutes_since_last_reading,
    f.device,
    d.avg_glucose_mg_dl AS day_avg_glucose_mg_dl,
    d.time_in_range_pct AS day_time_in_range_pct
FROM {{ ref('fct_glucose_readings') }} AS f
JOIN {{ ref('dim_date') }} AS d ON d.reading_date = f.reading_date
