# SPDX-License-Identifier: MIT
"""Tables, CSV and plots of figures."""
import csv
import json
import os
import statistics
from xml.sax.saxutils import escape

from .common import by_rival, middle, ratios

ECHO_COLUMNS = (("req/s", "rps", "{:.0f}"), ("p50 us", "p50_us", "{:.1f}"),
                ("p99 us", "p99_us", "{:.1f}"), ("server", "server_cpu", "{:.0%}"),
                ("load", "generator_cpu", "{:.0%}"), ("wait", "server_wait", "{:.0%}"))
OTHER_COLUMNS = (("p50", "p50_ns", "{:.0f}"), ("p99", "p99_ns", "{:.0f}"),
                 ("call", "call_ns", "{:.0f}"), ("early", "early", "{:.0f}"),
                 ("early worst", "early_worst_ns", "{:.0f}"), ("turns", "turns", "{:.0f}"),
                 ("calls", "calls", "{:.2f}"), ("kernel, both ends", "kernel_both_ends", "{:.0f}"))


def groups_of(figures):
    groups = {}
    for figure in figures:
        groups.setdefault(figure.group, []).append(figure)
    return groups


def sets_of(figures):
    sets = {}
    for figure in figures:
        sets.setdefault(figure.group[0], []).append(figure)
    return sets


def baseline_of(rivals, wanted):
    return wanted if wanted in rivals else next(iter(rivals))


def digits(value):
    places = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 or value == 0 else 3
    return f"{value:.{places}f}"


def bound(slices):
    """Whether the load generator set most of the slices."""
    flags = [figure.extras.get("generator_bound", False) for figure in slices]
    return sum(flags) * 2 > len(flags)


def table_rows(figures, baseline):
    """The header and the rows of one group's table."""
    rivals = by_rival(figures)
    base = rivals[baseline_of(rivals, baseline)]
    columns = [column for column in ECHO_COLUMNS + OTHER_COLUMNS
               if any(column[1] in figure.extras for figure in figures)]
    rows = [["rival", figures[0].unit, "ratio", "middle half"] + [name for name, _, _ in columns]]
    for rival, slices in rivals.items():
        row = [rival + (" (load-bound)" if bound(slices) else ""),
               digits(statistics.median(figure.value for figure in slices))]
        shares = ratios(slices, base)
        ratio, low, high = middle(shares) if shares else (None, None, None)
        row += ["-", "-"] if ratio is None else [f"{ratio:.3f}", f"{low:.3f}-{high:.3f}"]
        for _, key, form in columns:
            values = [figure.extras[key] for figure in slices if key in figure.extras]
            row.append(form.format(statistics.median(values)) if values else "-")
        rows.append(row)
    return rows


def print_group(figures, baseline):
    """The figures of one group, as a table."""
    group = figures[0].group
    rows = table_rows(figures, baseline)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{group[0]}: {group[1]}")
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells), flush=True)


# ---- for docs/benchmarks.md: a table a set, a line a case, a column a rival ----

EXTRA_TABLES = (("rps", "requests a second, median"), ("p99_us", "p99, µs"),
                ("server_wait", "share of the slice in which the server waited for its CPU"),
                ("calls", "system calls a request"), ("p50_ns", "p50, ns"),
                ("call_ns", "the call of the thread that wakes, ns"),
                ("early", "timers that fired early"),
                ("kernel_both_ends", "kernel memory of both ends, bytes a connection"))


def cell_of(slices, base):
    """`value (ratio; middle half)`, or the value alone."""
    value = digits(statistics.median(figure.value for figure in slices))
    shares = ratios(slices, base)
    if not shares:
        return value
    ratio, low, high = middle(shares)
    if slices is base or len(shares) == 1:
        return f"{value} ({ratio:.2f})"
    return f"{value} ({ratio:.2f}; {low:.2f}–{high:.2f})"


def markdown_table(figures, names, fill):
    """Lines: one a group, with fill(slices, rivals) for each rival of `names` that has it."""
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for group, members in groups_of(figures).items():
        rivals = by_rival(members)
        cells = [fill(rivals[name], rivals) if name in rivals else "" for name in names]
        lines.append(f"| {group[1]} | " + " | ".join(cells) + " |")
    return lines


def markdown_set(name, figures, wanted):
    """A set's main table and, where there are any, those of what its slices told besides."""
    names = list(by_rival(figures))
    first = by_rival(next(iter(groups_of(figures).values())))
    lines = [f"#### {name}", "",
             f"{figures[0].unit}; ratio to {baseline_of(first, wanted)} (where it is missing: to the "
             "first that is there), and its middle half", ""]
    lines += markdown_table(figures, names, lambda slices, rivals: cell_of(
        slices, rivals[baseline_of(rivals, wanted)]))
    for key, title in EXTRA_TABLES:
        told = [figure for figure in figures if key in figure.extras]
        if not told:
            continue
        form = "{:.0%}" if key == "server_wait" else "{:.2f}" if key == "calls" else "{:.0f}"
        lines += ["", title + ":", ""]
        lines += markdown_table(told, list(by_rival(told)), lambda slices, _, key=key, form=form:
                                form.format(statistics.median(
                                    figure.extras.get(key, 0) for figure in slices)))
    return lines + [""]


def markdown(figures, baselines, head):
    """All sets, under the lines of `head`."""
    lines = list(head)
    for name, members in sets_of(figures).items():
        lines += markdown_set(name, members, baselines.get(name))
    return "\n".join(lines)


def replace_between_marks(path, text):
    """Puts the text between the two marks of a document."""
    begin, end = "<!-- compare: begin -->\n", "<!-- compare: end -->\n"
    with open(path) as file:
        before, _, rest = file.read().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} has no {begin.strip()} and {end.strip()}")
    with open(path, "w") as file:
        file.write(before + begin + text + "\n" + end + after)


def write_csv(path, figures):
    """Every slice."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "case", "rival", "round", "value", "unit", "extras"])
        for figure in figures:
            writer.writerow([*figure.group, figure.rival, figure.round, f"{figure.value:.4f}",
                             figure.unit, json.dumps(figure.extras)])


# ---- plots: a row a rival, a dot at its median ratio, a line over the middle half ----

ROW, LEFT, WIDTH, RIGHT = 16, 170, 520, 90


def plot_rows(figures, baselines):
    """What is drawn, top to bottom: (title, None) or (rival, (median, low, high), is it ours)."""
    rows = []
    for group, members in groups_of(figures).items():
        rivals = by_rival(members)
        base = baseline_of(rivals, baselines.get(group[0]))
        rows.append((f"{group[1]} (ratio to {base})", None))
        for rival, slices in rivals.items():
            shares = ratios(slices, rivals[base])
            if shares:
                rows.append((rival, middle(shares)))
    return rows


def write_svg(path, name, figures, baselines):
    rows = plot_rows(figures, baselines)
    most = 2.0  # what is beyond is drawn at the border, with its number beside
    height = ROW * (len(rows) + 3)
    at = lambda ratio: LEFT + WIDTH * min(ratio, most) / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" '
           f'height="{height}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="8" y="{ROW}" font-weight="bold">{escape(name)}: less is better</text>']
    for tick in (0.5, 1.0, 1.5, 2.0):
        colour = "#888" if tick == 1.0 else "#ddd"
        out.append(f'<line x1="{at(tick)}" x2="{at(tick)}" y1="{ROW * 1.6}" y2="{height - ROW}" '
                   f'stroke="{colour}"/>')
        out.append(f'<text x="{at(tick)}" y="{height - 4}" text-anchor="middle">{tick:g}</text>')
    for index, (label, share) in enumerate(rows):
        y = ROW * (index + 2.3)
        if share is None:
            out.append(f'<text x="8" y="{y + 4}" font-weight="bold">{escape(label)}</text>')
            continue
        median, low, high = share
        colour = "#c0392b" if label.startswith(("whorl", "slab", "inline", "pool")) else "#34495e"
        out.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        out.append(f'<line x1="{at(low)}" x2="{at(high)}" y1="{y}" y2="{y}" stroke="{colour}" '
                   'stroke-width="3" opacity="0.5"/>')
        out.append(f'<circle cx="{at(median)}" cy="{y}" r="4" fill="{colour}"/>')
        out.append(f'<text x="{LEFT + WIDTH + 12}" y="{y + 4}">{median:.3f}</text>')
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def write_all(folder, figures, baselines, head):
    os.makedirs(folder, exist_ok=True)
    write_csv(os.path.join(folder, "slices.csv"), figures)
    with open(os.path.join(folder, "tables.md"), "w") as file:
        file.write(markdown(figures, baselines, head) + "\n")
    for name, members in sets_of(figures).items():
        write_svg(os.path.join(folder, f"{name}.svg"), name, members, baselines)
