package app

import (
	"context"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"golang.org/x/oauth2/google"

	"github.com/hedgerow/hedgerow/server/internal/config"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// googleScope lets a token call Vertex AI.
const googleScope = "https://www.googleapis.com/auth/cloud-platform"

// cloud finds the server's own credentials for the clouds that cloud_credentials names:
// AWS's default chain (environment, shared files, the role of a container or a machine),
// Google's application default credentials.
func (a *App) cloud(ctx context.Context) (gateway.Cloud, error) {
	c := gateway.Cloud{TrustSignatures: a.cfg.TrustAWSSignatures}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if a.cfg.HasCloud("aws") {
		found, err := awsconfig.LoadDefaultConfig(ctx)
		if err != nil {
			return c, config.Invalid("cloud_credentials: AWS's configuration cannot be read", "check the environment and the files in ~/.aws, or remove aws", err)
		}
		c.AWS = found.Credentials
	}
	if a.cfg.HasCloud("google") {
		// The token source outlives the start.
		found, err := google.FindDefaultCredentials(context.WithoutCancel(ctx), googleScope)
		if err != nil {
			return c, config.Invalid("cloud_credentials: there are no application default credentials", "set GOOGLE_APPLICATION_CREDENTIALS, run on Google Cloud with a service account, or remove google", err)
		}
		c.Google = found.TokenSource
	}
	return c, nil
}
