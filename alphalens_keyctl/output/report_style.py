"""The style sheet of the report's page: for a screen by day and by night, a phone, and paper."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1a1d21; --dim: #5a626b; --line: #d5dae0; --paper: #fff; --shade: #f5f7f9;
  --good: #0f6b3a; --bad: #b3141b; --link: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --dim: #9aa4ae; --line: #3a424b; --paper: #14171a;
  --shade: #1d2226; --good: #5fce8f; --bad: #ff7b7b; --link: #7db8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
header p { margin: 0; color: var(--dim); }
h1 { margin: .1rem 0 .3rem; font-size: 2.1rem; line-height: 1.2; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.25rem; }
p { margin: .5rem 0; }
a { color: var(--link); }
code { font: .875em/1.4 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
table { width: 100%; margin: .6rem 0; border-collapse: collapse; font-size: .92rem; }
th, td { padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--dim); font-weight: 600; white-space: nowrap; }
tbody th { color: var(--dim); font-weight: 400; white-space: nowrap; width: 11rem; }
td:first-child { min-width: 11.5rem; }
td code { color: var(--dim); overflow-wrap: break-word; }
.facts td code { color: var(--ink); overflow-wrap: anywhere; }
.verdict { padding: .8rem 1rem; border: 1px solid var(--line); border-left: .4rem solid currentColor;
  background: var(--shade); }
.verdict strong { font-size: 1.2rem; }
.sound { color: var(--good); }
.broken { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.6rem, 1fr)); gap: .6rem; margin: .6rem 0; }
.figures div { padding: .7rem .9rem; border: 1px solid var(--line); background: var(--shade); }
.figures dd { margin: 0; font-size: 1.45rem; font-weight: 600; line-height: 1.25; }
.figures dt { color: var(--dim); font-size: .9rem; }
.figures .late dd { color: var(--bad); }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); color: var(--dim); font-size: .9rem; }
@media screen and (max-width: 40rem) {
  body { padding: 1.2rem .9rem 2rem; }
  table:not(.facts) thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table:not(.facts), table:not(.facts) tbody, table:not(.facts) tr, table:not(.facts) td { display: block; }
  table:not(.facts) tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  table:not(.facts) td { display: grid; grid-template-columns: 7rem 1fr; padding: .15rem 0; border: 0; }
  td[data-head]::before { content: attr(data-head); color: var(--dim); }
  .facts tr, .facts th, .facts td { display: block; width: auto; padding: .1rem 0; border: 0; }
  .facts tr { padding: .3rem 0; }
}
@media print {
  @page { margin: 16mm 15mm; }
  :root { color-scheme: light; --ink: #000; --dim: #444; --line: #999; --paper: #fff; --shade: #fff; --good: #0f6b3a;
    --bad: #b3141b; --link: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h1 { font-size: 20pt; }
  h2 { font-size: 13pt; margin-top: 16pt; }
  h2, h2 + p, thead { break-after: avoid; }
  table { font-size: 9pt; }
  thead { display: table-header-group; }
  tr, dl, .verdict { break-inside: avoid; }
  a { text-decoration: none; }
}
"""
