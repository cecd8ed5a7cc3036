"""Plots of results as SVG, by pygal."""


def lines(path, title, x_title, y_title, series):
    """Writes a chart of lines: SERIES is name -> [(x, y), …]."""
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
    )
    for name, points in series.items():
        chart.add(name, points)
    chart.render_to_file(str(path))
