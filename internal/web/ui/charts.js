// Draws a chart of the table that stands below it, which is the chart for those
// who do not see it. The first column is the axis; of the others, those whose
// heading has data-series are drawn, with the numbers of their cells' data-value.
import { use, init } from "echarts/core";
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

use([BarChart, LineChart, GridComponent, LegendComponent, TooltipComponent, CanvasRenderer]);

const palette = ["--leaf", "--c2", "--c3", "--c4"];

export function draw(box) {
  const table = document.getElementById(box.dataset.chart);
  if (!table || box.dataset.drawn) return;
  box.dataset.drawn = "true";
  box.hidden = false;
  const chart = init(box);
  const paint = () => {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue(name).trim();
    const rows = [...table.tBodies[0].rows];
    const series = [...table.tHead.rows[0].cells].flatMap((head, i) => head.dataset.series ? [{
      name: head.textContent.trim(), type: head.dataset.series, barMaxWidth: 28, symbolSize: 7,
      stack: head.dataset.stack, yAxisIndex: Number(head.dataset.axis ?? 0),
      data: rows.map((r) => { const v = r.cells[i].dataset.value; return v === undefined || v === "" ? null : Number(v); }),
    }] : []);
    const value = { type: "value", axisLabel: { color: colour("--soft") }, splitLine: { lineStyle: { color: colour("--line") } } };
    chart.setOption({
      animation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      color: palette.map(colour),
      textStyle: { fontFamily: css.fontFamily },
      grid: { left: 8, right: 8, top: 34, bottom: 4, containLabel: true },
      legend: { top: 0, left: 0, textStyle: { color: colour("--ink") }, icon: "roundRect" },
      // Rich text is drawn on the canvas: the HTML form needs inline styles.
      tooltip: { trigger: "axis", renderMode: "richText", backgroundColor: colour("--card"), borderColor: colour("--line"), textStyle: { color: colour("--ink") } },
      xAxis: { type: "category", data: rows.map((r) => r.cells[0].textContent.trim()), axisLabel: { color: colour("--soft") }, axisLine: { lineStyle: { color: colour("--line") } }, axisTick: { show: false } },
      yAxis: series.some((s) => s.yAxisIndex === 1) ? [value, { ...value, splitLine: { show: false } }] : value,
      series,
    }, true);
  };
  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  new ResizeObserver(() => chart.resize()).observe(box);
}
