package config

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v3"
)

// limitConfig are the settings of the listeners that callers reach over a network.
type limitConfig struct {
	GatewayListen            string
	MaxConnections           int // 0: by the limit of open files
	MaxConnectionsPerAddress int // 0: a quarter of them
	ReadHeaderTimeout        time.Duration
	IdleTimeout              time.Duration
	MaxHeaderSize            string
	MinUploadRate            string // a second
}

func (c *limitConfig) flags() []cli.Flag {
	str := func(dst *string, name, def, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Value: def, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	dur := func(dst *time.Duration, name string, def time.Duration, usage string) cli.Flag {
		return &cli.DurationFlag{Name: name, Value: def, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	number := func(dst *int, name, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, Usage: usage, Sources: cli.EnvVars(envName(name)), Destination: dst}
	}
	return []cli.Flag{
		str(&c.GatewayListen, "gateway-listen", "", "separate address for the gateway, which --listen then does not serve (default: --listen serves it)"),
		number(&c.MaxConnections, "max-connections", "maximum concurrent client connections; 0: as many as the open-file limit allows, at most 20000"),
		number(&c.MaxConnectionsPerAddress, "max-connections-per-address", "maximum connections per address; loopback and trusted proxies are not limited; 0: a quarter"),
		dur(&c.ReadHeaderTimeout, "read-header-timeout", 10*time.Second, "timeout for reading a request's headers"),
		dur(&c.IdleTimeout, "idle-timeout", 2*time.Minute, "idle timeout of a connection between requests"),
		str(&c.MaxHeaderSize, "max-header-size", "256KiB", "maximum total size of a request's headers"),
		str(&c.MinUploadRate, "min-upload-rate", "1KiB", "minimum bytes per second of a request body, over 30 seconds of waiting for it; 0: no limit"),
	}
}

func (c *limitConfig) validate() error {
	switch {
	case c.MaxConnections < 0 || c.MaxConnections > 0 && c.MaxConnections < 8:
		return Invalid(fmt.Sprintf("max_connections: %d are too few", c.MaxConnections), "omit it, or set it to at least 8", nil)
	case c.MaxConnectionsPerAddress < 0:
		return Invalid("max_connections_per_address must not be negative", "omit it for a quarter of max_connections", nil)
	case c.ReadHeaderTimeout < 0 || c.IdleTimeout < 0:
		return Invalid("read_header_timeout and idle_timeout must not be negative", "write them as 10s or 2m", nil)
	}
	if n, err := ParseSize(c.MaxHeaderSize); c.MaxHeaderSize != "" && (err != nil || n < 8<<10 || n > 16<<20) {
		return Invalid(fmt.Sprintf("max_header_size: %q is not a size between 8 KiB and 16 MiB", c.MaxHeaderSize), "write a number with a unit, for example 256KiB", err)
	}
	if _, err := c.UploadRate(); err != nil {
		return Invalid(fmt.Sprintf("min_upload_rate: %q is not a size", c.MinUploadRate), "write a number with a unit, for example 1KiB, or 0", err)
	}
	return nil
}

func (c *limitConfig) UploadRate() (int64, error) {
	if c.MinUploadRate == "" || c.MinUploadRate == "0" {
		return 0, nil
	}
	return ParseSize(c.MinUploadRate)
}
