"""Style of a page: desktop, phone, dark mode and print."""

COLOURS = 8
"""Number of colour classes, `c0` to `c7` (Okabe and Ito's palette, except for the last)."""
HAND_MADE = 1  # the number of the class that looks like `hand`

_LIGHT = """
--page:#f6f7f9;--card:#fff;--ink:#1b2026;--soft:#5b6570;--rule:#d9dee4;--grid:#e8ebef;
--grey:#b3bbc4;--found:#2166ac;--hand:#c75000;--bad:#c0392b;--good:#1a7f4b;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#b8860b;--c5:#56b4e9;--c6:#7a5195;
--c7:#707a85;
"""
_DARK = """
--page:#14171b;--card:#1d2126;--ink:#e6e9ed;--soft:#9fa9b4;--rule:#363d45;--grid:#2a3037;
--grey:#59636e;--found:#6fb1ee;--hand:#f39a4f;--bad:#f07867;--good:#58c48a;
--c0:#4fa8e0;--c1:#f08a3c;--c2:#2fc79b;--c3:#e29bc4;--c4:#e0b13a;--c5:#8fd0f5;--c6:#b491d4;
--c7:#9aa5b0;
"""

MARKS = (
    "".join(f".c{i}{{color:var(--c{i})}}\n" for i in range(COLOURS))
    + """
svg svg{overflow:hidden}
svg text{font:11.5px system-ui,sans-serif;fill:var(--ink)}
svg text.label{fill:var(--soft)}
.grid{stroke:var(--grid);fill:none}.axis{stroke:var(--soft);fill:none}
.dot,.line,.cross,.diamond,.dash,.bolt{stroke:currentColor;fill:none;stroke-width:1.6}
.dot{stroke-width:6.5;stroke-linecap:round;stroke-opacity:.8}
.diamond{fill:currentColor}.bar{fill:currentColor;fill-opacity:.75}.dash,.bolt{stroke-width:2.5}
.line{stroke-linejoin:round}.strong{stroke-width:2.6}.thin{stroke-width:1;stroke-opacity:.45}
.dashed{stroke-dasharray:6 4}
.grey{color:var(--grey)}.found{color:var(--found)}.hand{color:var(--hand)}.bad{color:var(--bad)}.good{color:var(--good)}
.ink{color:var(--ink)}.rule{color:var(--soft)}
"""
)
"""Style of the marks of `study.page.svg`."""

ALONE = f":root{{{_LIGHT}}}\n{MARKS}"
"""Style of a standalone SVG file."""

STYLE = (
    f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
"""
    + MARKS
    + """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0}
main{max-width:1240px;margin:0 auto;padding:1rem 1.25rem 3rem}
h1{font-size:1.5rem;margin:.6rem 0 .1rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .5rem}
h3{font-size:.95rem;margin:.2rem 0;overflow-wrap:anywhere}
p{margin:.4rem 0;max-width:75ch}
.soft,.card small,figcaption,.label,.note{color:var(--soft)}
.note,figcaption{font-size:.85rem}
.cards{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,160px),1fr))}
.card,figure{background:var(--card);border:1px solid var(--rule);border-radius:8px;
padding:.8rem 1rem;min-width:0;margin:0}
.card b{display:block;font-size:1.3rem;line-height:1.3;overflow-wrap:anywhere}
.card small{display:block;font-size:.85rem}
.card h3{color:var(--soft);font-weight:600;font-size:.85rem}
.verdict{border-left:6px solid var(--grey);margin:1rem 0 .8rem;font-size:1.05rem}
.verdict.yes{border-left-color:var(--good)}.verdict.no{border-left-color:var(--bad)}
.verdict.open{border-left-color:var(--hand)}
.verdict b{font-size:1.35rem}
.verdict svg{max-width:570px}
.figures{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));
}
.panels{grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr))}
figure{padding:.6rem .7rem}section>figure{max-width:594px}
svg{display:block;width:100%;max-width:760px;height:auto}
.dot:hover,.diamond:hover,.line:hover{stroke-opacity:1}
.line:hover{stroke-width:3.5}.dot:hover{stroke-width:10}
.key{display:flex;flex-wrap:wrap;gap:.1rem 1rem;list-style:none;padding:0;margin:.3rem 0 0;
font-size:.85rem}
.key i{font-style:normal;font-weight:700;margin-right:.35em}
.key span{color:var(--ink)}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:left;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600}td.number,th.number{text-align:right;white-space:nowrap}
.values td,.values th{white-space:nowrap}
.values thead th,.values thead th.number{white-space:normal;vertical-align:bottom}
.shares td{text-align:right;min-width:2.6rem;
background:color-mix(in srgb,var(--found) calc(var(--share,0)*70%),transparent)}
.shares th{white-space:nowrap}
.facts th{white-space:nowrap;color:var(--soft);font-weight:500}.facts td{overflow-wrap:anywhere}
pre{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:.5rem .7rem;
margin:.35rem 0;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.45 ui-monospace,monospace}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
ol,ul{padding-left:1.3rem}li{margin:.35rem 0}ul li{max-width:85ch}
details{margin:1rem 0}summary{cursor:pointer;font-weight:600}
img{image-rendering:pixelated;width:72px;height:72px;display:block}
.none{color:var(--soft)}
@media (max-width:600px){
main{padding:.6rem .7rem 2rem}.facts th{white-space:normal}th,td{padding:.2rem .4rem}
.shares{font-size:.72rem}.shares thead th.number{writing-mode:vertical-rl;text-align:left}
.card{padding:.6rem .7rem}.shares td{min-width:0}.shares th,.shares td{padding:.2rem .25rem}}
@media print{
:root{color-scheme:light;"""
    + _LIGHT
    + """--page:#fff}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{font-size:10pt}main{max-width:none;padding:0}
.card,figure,tr,li{break-inside:avoid}h2,h3{break-after:avoid}
.figures{grid-template-columns:1fr 1fr}.panels{grid-template-columns:1fr 1fr 1fr}
.wide{overflow:visible}.screen{display:none}.tables{grid-template-columns:1fr}
.values{font-size:8pt}.values td,.values th,td.number,th.number{white-space:normal}
details::details-content{content-visibility:visible;block-size:auto}}
"""
)
