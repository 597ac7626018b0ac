module github.com/hedgerow/hedgerow

go 1.26.0

require (
	github.com/andybalholm/brotli v1.2.8
	github.com/google/uuid v1.6.0
	github.com/klauspost/compress v1.20.3
	github.com/shopspring/decimal v1.6.0
	github.com/tidwall/gjson v1.20.0
	go.yaml.in/yaml/v3 v3.0.6
	golang.org/x/text v0.43.0
)

require (
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
)
