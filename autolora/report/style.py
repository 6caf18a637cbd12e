"""The style sheet of a report: light or dark as the reader has it, narrow screens, and paper."""

CSS = """\
:root { color-scheme: light dark; --text: #1c1f23; --soft: #59616b; --line: #d5d9de; --shade: #f3f5f7;
  --ground: #ffffff; --link: #0a58b5; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e3e6ea; --soft: #a2abb5; --line: #3d444c; --shade: #22272d; --ground: #15181c; --link: #7db5ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.25rem 4rem; color: var(--text); background: var(--ground);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; }
h1 { font-size: 1.7rem; margin: 0.5rem 0 1rem; }
main > h2 { font-size: 1.35rem; margin: 2.5rem 0 0.5rem; padding-top: 0.75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.75rem 0 0.25rem; }
.lead { font-size: 1.2rem; font-weight: 600; }
p, main > ul { max-width: 50rem; margin: 0.5rem 0; }
a { color: var(--link); }
nav { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: 0.75rem 1rem;
  margin-bottom: 1.5rem; font-size: 0.9rem; }
nav h2 { font-size: 1rem; margin: 0 0 0.25rem; }
nav > ul { columns: 18rem; margin: 0; padding: 0; list-style: none; }
nav > ul > li { break-inside: avoid; padding-bottom: 0.35rem; }
nav ul ul { padding-left: 1.1rem; }
figure { margin: 1rem 0; max-width: 100%; }
figcaption { color: var(--soft); font-size: 0.9rem; margin: 0.3rem 0; }
.table { margin: 0.75rem 0; max-width: 100%; }
.caption { font-weight: 600; font-size: 0.9rem; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: -99rem; background: var(--ground); padding: 0.5rem; z-index: 1; }
.skip:focus { left: 0.5rem; top: 0.5rem; }
.scroll { position: relative; overflow: auto; max-width: 100%; max-height: 34rem;
  border: 1px solid var(--line); border-radius: 4px; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
main:focus { outline: 0; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.25rem 0.7rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
th { background: var(--shade); font-weight: 600; vertical-align: bottom; position: sticky; top: 0; }
th button { all: unset; cursor: pointer; font: inherit; }
th button:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
th button::after { content: " \\2195"; color: var(--soft); font-weight: 400; }
th[aria-sort="ascending"] button::after { content: " \\2191"; color: var(--link); }
th[aria-sort="descending"] button::after { content: " \\2193"; color: var(--link); }
.number { text-align: right; }
.gallery { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 0 1rem; }
.gallery figure { flex: 0 1 auto; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
details { margin: 0.75rem 0; border: 1px solid var(--line); border-radius: 4px; padding: 0.4rem 0.9rem; }
summary { cursor: pointer; font-weight: 600; }
@media screen and (prefers-color-scheme: dark) {
  img { filter: invert(0.93) hue-rotate(180deg) brightness(1.3); background: #ffffff; }
}
@media screen and (max-width: 34rem) {
  body { padding: 0.5rem 0.75rem 3rem; }
  h1 { font-size: 1.35rem; }
  .wide { overflow-x: auto; }
  .wide img { max-width: none; }
}
@media print {
  :root { color-scheme: light; --text: #000000; --soft: #444444; --line: #bbbbbb; --shade: #f3f3f3; --ground: #ffffff;
    --link: #000000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  details { border: 0; padding: 0; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .scroll { overflow: visible; max-height: none; border: 0; }
  .skip, th button { display: none; }
  th { position: static; }
  th[data-name]::before { content: attr(data-name); }
  table { font-size: 7.5pt; width: 100%; }
  th, td { white-space: normal; padding: 0.1rem 0.3rem; }
  td { overflow-wrap: anywhere; }
  .number { white-space: nowrap; overflow-wrap: normal; }
  th.number { white-space: normal; }
  .gallery { display: block; }
  .gallery figure { display: inline-block; vertical-align: top; max-width: 49%; margin: 0.3rem 0; }
  .gallery figure:has(.wide) { max-width: 100%; }
  .gallery figure, tr, .table:not(:has(tr:nth-child(15))) { break-inside: avoid; }
  h2, h3, summary, .caption, figcaption { break-after: avoid; }
}
"""
