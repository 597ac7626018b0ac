// Package deploy has the files by which people install hedgerow: compose.yaml, a
// Dockerfile, a chart and a unit. Its tests read them with what reads them in earnest:
// Compose's parser, BuildKit's and Helm. server/cmd/hedgerow checks what they say
// against hedgerow's own settings and commands.
package deploy
