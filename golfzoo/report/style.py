"""How a report looks: its colours, light and dark, and its style sheet.

The plots are drawn in the light colours; in the page each of these becomes the variable of its name, so that one plot
serves both schemes. The series are the runs' and nothing else's. They were sought by their least distance in OKLab as
seen by most people, by deuteranopes and by protanopes (Machado et al. 2009), with a contrast of at least 3 to the
background.
"""

LIGHT = {
    "ink": "#1c2128",
    "muted": "#5d6673",
    "line": "#e2e6eb",
    "surface": "#fefefe",
    "accent": "#0a6fb0",
    "good": "#0b7f5c",
    "bad": "#b84a08",
    "series-1": "#0072b2",
    "series-2": "#cb390e",
    "series-3": "#00aa6d",
    "series-4": "#891682",
    "series-5": "#c38200",
    "series-6": "#44504b",
    "series-7": "#ca75cf",
    "series-8": "#227b44",
    "series-9": "#4c37b5",
    "series-10": "#c33985",
    "series-11": "#892f10",
    "series-12": "#7a6df0",
}
DARK = {
    "ink": "#e9ebee",
    "muted": "#9ea8b5",
    "line": "#2d343e",
    "surface": "#171b21",
    "accent": "#56a9e2",
    "good": "#2fc49a",
    "bad": "#f08b4d",
    "series-1": "#00a1ff",
    "series-2": "#ff850b",
    "series-3": "#21ffdc",
    "series-4": "#9d7fae",
    "series-5": "#ffd300",
    "series-6": "#abad79",
    "series-7": "#e890c5",
    "series-8": "#288b5d",
    "series-9": "#a4b8ff",
    "series-10": "#e44e7b",
    "series-11": "#bb6204",
    "series-12": "#6e69e9",
}
SERIES = tuple(name for name in LIGHT if name.startswith("series-"))
# Tiles carry white letters in both schemes, so they are the same in both.
TILES = ("#1f6fa8", "#0c7a5c", "#8c4a75", "#8a6410", "#4c48a8", "#8c2f39", "#4f6b1d", "#46707f")
REST_TILE = "#59616c"
CODE_TILE = "#b04f0a"


def style_sheet() -> str:
    return f":root {{\n{_variables(LIGHT)} --page: #f5f6f8; --soft: #eef1f4;\n}}\n{_SCHEME}{_RULES}"


def _variables(colours: dict[str, str]) -> str:
    return "".join(f" --{name}: {colour};" for name, colour in colours.items())


_SCHEME = f"""\
@media (prefers-color-scheme: dark) {{
 :root {{{_variables(DARK)} --page: #0f1216; --soft: #20262e; }}
}}
"""

_RULES = """\
:root { color-scheme: light dark; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
 margin: 0; background: var(--page); color: var(--ink);
 font: 400 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif;
}
main, header, footer { max-width: 1180px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 52px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -0.022em; font-weight: 660; margin: 0 0 6px; }
h2 {
 font-size: 22px; letter-spacing: -0.014em; font-weight: 640; margin: 52px 0 4px; overflow-wrap: anywhere;
 scroll-margin-top: 20px;
}
h3 { font-size: 15px; font-weight: 620; margin: 0 0 2px; }
p { margin: 0 0 14px; }
.lead, .note, figcaption, .key span { color: var(--muted); }
.lead { max-width: 74ch; overflow-wrap: anywhere; }
.note { font-size: 14.5px; max-width: 82ch; overflow-wrap: anywhere; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
nav { display: flex; flex-wrap: wrap; gap: 6px 20px; margin: 18px 0 26px; font-size: 14.5px; }
.keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; }
.key, .card { background: var(--surface); border: 1px solid var(--line); border-radius: 12px; }
.key { padding: 14px 18px; }
.key b {
 display: block; font-size: 25px; font-weight: 640; letter-spacing: -0.02em; font-variant-numeric: tabular-nums;
}
.key span { display: block; font-size: 13.5px; line-height: 1.4; overflow-wrap: anywhere; }
.card { padding: 18px 20px; margin: 14px 0; }
.grid {
 display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr)); gap: 16px; margin: 14px 0;
 align-items: start;
}
.grid > .card { margin: 0; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; max-width: 640px; height: auto; margin: 6px auto 0; }
figure svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif !important; }
figcaption { font-size: 14px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
.card > .scroll { margin: -6px -8px; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 8px 11px; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 500; font-size: 13px; vertical-align: bottom; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover td { background: var(--soft); }
th.text, td.text { text-align: left; }
td.wrap { white-space: normal; min-width: 150px; max-width: 340px; overflow-wrap: break-word; line-height: 1.35; }
td small { color: var(--muted); font-size: 12.5px; display: block; }
td strong { font-weight: 660; }
.who { display: flex; gap: 10px; align-items: baseline; min-width: 190px; }
.who b { font-weight: 600; }
tr.published td { background: var(--soft); }
.number {
 color: var(--surface); white-space: nowrap; border-radius: 5px; padding: 1px 6px; font-size: 12px; font-weight: 640;
}
.badge {
 border: 1px solid currentColor; border-radius: 999px; padding: 0 8px; font-size: 12px; font-weight: 560;
 display: inline-block;
}
.good { color: var(--good); }
.bad { color: var(--bad); }
.quiet { color: var(--muted); }
.room { margin: 10px 0 16px; }
.room + .room { margin-top: 20px; }
.room .bar {
 display: flex; height: 12px; border-radius: 6px; overflow: hidden; background: var(--soft); margin: 6px 0 5px;
}
.room p { margin: 0; font-size: 14px; overflow-wrap: anywhere; }
.list { padding-top: 6px; padding-bottom: 6px; }
details + details { border-top: 1px solid var(--line); }
details details { margin-left: 22px; }
.card:not(.list) > details { margin: 6px 0 -10px; }
summary { cursor: pointer; padding: 10px 0; font-size: 14.5px; font-weight: 540; overflow-wrap: anywhere; }
details > div { padding-bottom: 14px; }
pre {
 margin: 0; padding: 14px 16px; background: var(--soft); border-radius: 8px; overflow-x: auto;
 font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
code {
 font: 0.92em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere;
}
pre code { font: inherit; overflow-wrap: normal; }
footer { color: var(--muted); font-size: 13.5px; padding-top: 44px; padding-bottom: 56px; }
@media (max-width: 640px) {
 main, header, footer { padding-left: 14px; padding-right: 14px; }
 header { padding-top: 30px; }
 h1 { font-size: 27px; }
 h2 { font-size: 20px; margin-top: 44px; }
 .keys { grid-template-columns: 1fr 1fr; gap: 10px; }
 .key { padding: 11px 13px; }
 .key b { font-size: 21px; }
 .card { padding: 13px 12px; border-radius: 10px; }
}
@media print {
 body { background: white; }
 .card, .key { break-inside: avoid; }
}
"""
