-- Rows are failures: days whose number of readings is not that of the fact table.
SELECT d.reading_date, d.readings, count(f.entry_id) AS counted
FROM dim_date AS d
LEFT JOIN fct_glucose_readings AS f ON f.reading_date = d.reading_date
GROUP BY ALL
HAVING d.readings <> counted
