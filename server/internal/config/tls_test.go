package config

import "testing"

func TestTLSSettings(t *testing.T) {
	for _, tt := range []struct {
		c  Config
		ok bool
	}{
		{Config{Listen: "0.0.0.0:1"}, true},
		{Config{Listen: "0.0.0.0:1", TLSCert: "c.pem", TLSKey: "k.pem"}, true},
		{Config{Listen: "0.0.0.0:1", TLSCert: "c.pem"}, false},
		{Config{Listen: "0.0.0.0:1", TLSKey: "k.pem"}, false},
		{Config{Listen: "127.0.0.1:1", TLSCert: LoopbackCert}, true},
		{Config{Listen: "127.0.0.1:1", TLSCert: LoopbackCert, TLSKey: "k.pem"}, false},
		{Config{Listen: "0.0.0.0:1", TLSCert: LoopbackCert}, false},
	} {
		tt.c.GatewayListen = ""
		if err := tt.c.validateTLS(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.c, err)
		}
	}
}
