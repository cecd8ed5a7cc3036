"""Plots of results as SVG, by pygal (issue 4, point 5)."""

import math


def _chart(path, title, x_title, y_title, series, **more):
    import pygal
    from pygal.style import CleanStyle

    chart = pygal.XY(
        title=title,
        x_title=x_title,
        y_title=y_title,
        style=CleanStyle,
        width=800,
        height=400,
        include_x_axis=True,
        legend_at_bottom=True,
        js=[],
        disable_xml_declaration=True,
        **more,
    )
    for name, points in series.items():
        chart.add(name, points)
    chart.render_to_file(str(path))


def lines(path, title, x_title, y_title, series):
    """Writes a chart of lines: SERIES is name -> [(x, y), …]."""
    _chart(path, title, x_title, y_title, series)


def sizes(path, title, series):
    """Writes rows/s against the rows of a table: SERIES is name -> [(rows, rows/s), …]; the axis of the rows is logarithmic."""
    logs = {name: [(math.log10(rows), rate) for rows, rate in points] for name, points in series.items()}
    ticks = sorted({x for points in logs.values() for x, _ in points})
    more = {"x_labels": ticks, "x_value_formatter": lambda x: f"{10**x:,.0f}", "value_formatter": lambda y: f"{y:,.0f}"}
    _chart(path, title, "rows of the table", "rows/s", logs, **more)
