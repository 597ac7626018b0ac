// Package servertest opens what a server keeps - the journal, the settings, the
// store, and the prompts, experiments, checks and datasets on top of them - in a
// temporary folder, for tests of the pages, the API and the tools: [Open].
package servertest
