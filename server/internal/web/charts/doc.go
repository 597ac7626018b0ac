// Package charts is the pages of figures. Each chart is also a table, whose rows
// lead to the events behind them.
//
//   - pages.go: [Pages] and the routes. overview.go, models.go and analytics.go: a
//     page each. examples.go: the events behind a point of a chart.
//   - board.go: a page of tiles and charts, made of [Spec]s by [Load]; pages of other
//     packages show charts with it.
//   - explore.go: the chart builder, whose address is the chart. dashboards.go: pages of
//     saved charts.
//   - csv.go: a chart's table as a file. choices.go: values for filters.
package charts
