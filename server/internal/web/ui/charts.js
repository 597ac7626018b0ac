// Draws a chart of the table that stands below it, which is the chart for those
// who do not see it. The first column is the axis; of the others, those whose
// heading has data-series are drawn, with the numbers of their cells' data-value.
// A click says which point it meant, by the event "point": its cell of the table,
// or its row. What it leads to, app.js knows.
import { use, init } from "echarts/core";
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

use([BarChart, LineChart, GridComponent, LegendComponent, TooltipComponent, CanvasRenderer]);

// As many groups as charts have at most; what is left over is grey.
const palette = Array.from({ length: 10 }, (_, i) => "--data-" + i);
const rest = "Other";

const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const dollars = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const write = {
  ms: (v) => v === 0 ? "0" : v >= 1000 ? +(v / 1000).toPrecision(3) + " s" : Math.round(v) + " ms",
  usd: (v) => "$" + dollars.format(v),
  rate: (v) => +v.toFixed(1) + " %",
  tok: (v) => short.format(v) + " tok",
};

// cut leaves out the middle of a long name: versions differ at the end.
const cut = (name, n) => name.length > n ? name.slice(0, Math.ceil(n / 2)) + "…" + name.slice(-Math.floor(n / 2) + 1) : name;

export function draw(box) {
  const table = document.getElementById(box.dataset.chart);
  if (!table || box.dataset.drawn) return;
  box.dataset.drawn = "true";
  box.hidden = false;
  const chart = init(box);
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const drawn = heads.filter((h) => h.dataset.series);
  const number = write[table.dataset.unit] ?? ((v) => short.format(v));
  const timed = heads[0].textContent.trim() !== "Group";
  // Groups have names, which are read best beside bars that lie.
  const lying = !timed && drawn.every((h) => h.dataset.series === "bar");
  const names = rows.map((r) => r.cells[0].textContent.trim());
  const paint = () => {
    const css = getComputedStyle(box);
    // Of light-dark() the browser says which it is only where it is a color.
    const colour = (name) => { box.style.color = `var(${name})`; return css.color; };
    const narrow = box.clientWidth < 480;
    // About as many lines as the legend takes, whose letters are 6.3 px wide.
    const lines = narrow ? 1 : Math.ceil(drawn.reduce((sum, head) => sum + Math.min(head.textContent.trim().length, 22) * 6.3 + 28, 0) / box.clientWidth);
    const series = drawn.map((head) => ({
      name: head.textContent.trim(), type: head.dataset.series, barMaxWidth: lying ? 16 : 28, symbolSize: narrow || rows.length > 14 ? 4 : 7, showSymbol: rows.length < 60, showAllSymbol: true, itemStyle: head.textContent.trim() === rest ? { color: colour("--data-other") } : undefined,
      stack: head.dataset.stack || undefined, yAxisIndex: Number(head.dataset.axis ?? 0), cursor: table.dataset.href ? "pointer" : "default",
      connectNulls: head.dataset.series === "line", emphasis: { focus: "series" },
      data: rows.map((r) => { const v = r.cells[head.cellIndex].dataset.value; return v === undefined || v === "" ? null : Number(v); }),
    }));
    const value = { type: "value", axisLabel: { color: colour("--ink-3"), formatter: number }, splitLine: { lineStyle: { color: colour("--line") } }, splitNumber: lying && narrow ? 3 : 5 };
    const named = {
      type: "category", data: names, axisLine: { lineStyle: { color: colour("--line") } }, axisTick: { show: false },
      axisLabel: lying ? { color: colour("--ink-3"), interval: 0, fontSize: 11, formatter: (name) => cut(name, narrow ? 16 : 24) } : { color: colour("--ink-3"), hideOverlap: true },
    };
    const other = drawn.find((head) => head.dataset.axis);
    const second = { ...value, axisLabel: { color: colour("--ink-3"), formatter: write[other?.dataset.unit] }, splitLine: { show: false } };
    chart.setOption({
      animation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      animationDuration: 300,
      color: palette.map(colour),
      textStyle: { fontFamily: css.fontFamily },
      grid: { left: 8, right: 12, top: 18 + 22 * Math.min(lines, 3), bottom: 4, containLabel: true },
      legend: { type: narrow ? "scroll" : "plain", pageIconSize: 10, pageTextStyle: { color: colour("--ink-3") }, pageIconColor: colour("--ink-3"), pageIconInactiveColor: colour("--line"), top: 0, left: 0, right: 0, itemWidth: 12, itemHeight: 8, itemGap: 8, formatter: (name) => cut(name, 22), textStyle: { color: colour("--ink"), fontSize: 11.5, lineHeight: 16 }, icon: "roundRect" },
      // Rich text is drawn on the canvas: the HTML form needs inline styles.
      tooltip: {
        trigger: "axis", renderMode: "richText", confine: true, backgroundColor: colour("--surface"), borderColor: colour("--line"), textStyle: { color: colour("--ink"), fontSize: 12 },
        // The second axis has its own unit, which the table's cell writes.
        formatter: (points) => points.length ? [points[0].axisValueLabel, ...points.filter((p) => p.value != null && !(p.value === 0 && points.length > 3))
          .map((p) => p.seriesName + "  " + rows[p.dataIndex].cells[drawn[p.seriesIndex].cellIndex].textContent.trim())].join("\n") : "",
      },
      xAxis: lying ? value : named,
      yAxis: lying ? { ...named, inverse: true } : series.some((s) => s.yAxisIndex === 1) ? [value, second] : value,
      series,
    }, true);
  };
  paint();
  if (table.dataset.href) {
    const point = (row, head) => table.dispatchEvent(new CustomEvent("point", { bubbles: true, detail: { row, column: head?.cellIndex } }));
    // Of a click on a bar or a marker both hear, in no certain order.
    let hit;
    chart.on("click", (p) => { hit = p; });
    chart.getZr().on("click", (e) => setTimeout(() => {
      const p = hit;
      hit = undefined;
      if (p) return point(rows[p.dataIndex], drawn[p.seriesIndex]);
      if (!chart.containPixel("grid", [e.offsetX, e.offsetY])) return;
      const at = chart.convertFromPixel({ gridIndex: 0 }, [e.offsetX, e.offsetY]);
      const row = rows[Math.round(at[lying ? 1 : 0])];
      if (!row) return;
      // Beside the markers of lines: the line that is nearest. Beside bars: the largest.
      const of = (head) => { const v = row.cells[head.cellIndex].dataset.value; return v ? Number(v) : NaN; };
      const near = drawn.filter((head) => !Number.isNaN(of(head)) && !head.dataset.axis);
      const line = near.some((head) => head.dataset.series === "line");
      near.sort((a, b) => line ? Math.abs(of(a) - at[1]) - Math.abs(of(b) - at[1]) : of(b) - of(a));
      if (near.length) point(row, near[0]);
    }));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  document.addEventListener("theme", paint);
  new ResizeObserver(() => chart.resize()).observe(box);
}
