package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/oauth2"

	"github.com/hedgerow/hedgerow/event"
)

// Cloud holds the server's own credentials for clouds, and how signed requests of
// callers are treated. Its zero value has none.
type Cloud struct {
	// AWS and Google are used for callers with a hedgerow key whose project stores
	// no key for Bedrock or Vertex. They cache what they fetch. nil: not used.
	AWS    aws.CredentialsProvider
	Google oauth2.TokenSource

	// TrustSignatures accepts requests to Bedrock that are signed with an unknown
	// AWS key, without verifying the signature.
	TrustSignatures bool
}

// awsAlgorithm begins the Authorization header of a request signed with AWS
// Signature Version 4
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
const awsAlgorithm = "AWS4-HMAC-SHA256"

// signatureAge is how old a verified signature may be, in either direction, as at
// AWS.
const signatureAge = 5 * time.Minute

// awsKey reads a stored key of Bedrock that is an AWS key: ID:SECRET or
// ID:SECRET:SESSION_TOKEN. Any other is a Bedrock API key.
func awsKey(stored string) (aws.Credentials, bool) {
	id, rest, ok := strings.Cut(stored, ":")
	secret, session, _ := strings.Cut(rest, ":")
	return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: session, Source: "project"}, ok && id != "" && secret != ""
}

// chooseKey decides which credentials the call is sent with: the caller's own, the
// project's stored key, or the server's. It sets x.key, x.aws or x.google; none of
// them is the caller's own.
func (x *exchange) chooseKey(grant Grant) *event.Error {
	up := x.route.up
	instead := x.cred.inPlace && !x.cred.provider
	signature := !instead && up.name == "bedrock" && signed(x.in.Header.Get("Authorization"))
	if !instead && !signature {
		return nil
	}
	stored, ok := "", false
	if grant.ProviderKey != nil {
		stored, ok = grant.ProviderKey(up.name)
	}
	pair, isPair := aws.Credentials{}, false
	if ok && up.name == "bedrock" {
		pair, isPair = awsKey(stored)
	}
	switch {
	case signature && isPair && parseSignature(x.in.Header.Get("Authorization")).keyID == pair.AccessKeyID:
		x.aws, x.verify = &pair, true
	case signature && !x.g.cloud.TrustSignatures:
		return event.NewError(event.CodeUnauthorized, "a signed request cannot be forwarded: its signature is for hedgerow's address",
			"send a Bedrock API key as Authorization: Bearer, or a hedgerow key as the access key id; or store the AWS key that signs with: hedgerow project provider-key bedrock", nil)
	case isPair:
		x.aws = &pair
	case ok:
		x.key = stored
	case up.name == "bedrock" && x.g.cloud.AWS != nil:
		c, err := x.g.cloud.AWS.Retrieve(x.in.Context())
		if err != nil {
			return event.NewError(event.CodeUpstream, "the server has no AWS credentials", "check the role or the environment that hedgerow runs with", err)
		}
		x.aws = &c
	case up.name == "vertex" && x.g.cloud.Google != nil:
		token, err := x.g.cloud.Google.Token()
		if err != nil {
			return event.NewError(event.CodeUpstream, "the server has no Google credentials", "check the application default credentials that hedgerow runs with", err)
		}
		x.google = token.AccessToken
	default:
		return event.NewError(event.CodeUnauthorized, "the project has no key for "+up.name, "send the provider's own key and move hedgerow's to X-Hedgerow-Key, or store one with: hedgerow project provider-key "+up.name, nil)
	}
	return nil
}

// checkSignature verifies the caller's signature where chooseKey asked for it,
// and that the request can be re-signed. The body has been read.
func (x *exchange) checkSignature() *event.Error {
	switch {
	case x.aws == nil:
		return nil
	case x.body.stream != nil:
		return event.NewError(event.CodeTooLarge, "the request is too large to be signed, or is not JSON", "send a smaller one, or use a Bedrock API key", nil)
	case x.verify && !verifySignature(x.in, x.body.whole, *x.aws, x.start):
		return event.NewError(event.CodeForbidden, "the signature does not match, or is older than 5 minutes", "check the secret access key, the clock, and that no proxy changes the request", nil)
	}
	return nil
}

// signature is what an Authorization header of AWS names.
type signature struct {
	keyID, region, service string
	headers                []string
	value                  string
}

func parseSignature(authorization string) (s signature) {
	for part := range strings.SplitSeq(strings.TrimPrefix(authorization, awsAlgorithm), ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			if scope := strings.Split(v, "/"); len(scope) == 5 {
				s.keyID, s.region, s.service = scope[0], scope[2], scope[3]
			}
		case "SignedHeaders":
			s.headers = strings.Split(v, ";")
		case "Signature":
			s.value = v
		}
	}
	return s
}

// verifySignature signs the request as it arrived, over the headers that the caller
// signed, and compares.
func verifySignature(in *http.Request, body []byte, c aws.Credentials, now time.Time) bool {
	s := parseSignature(in.Header.Get("Authorization"))
	at, err := time.Parse("20060102T150405Z", in.Header.Get("X-Amz-Date"))
	if err != nil || s.value == "" || now.Sub(at).Abs() > signatureAge {
		return false
	}
	again := &http.Request{Method: in.Method, Host: in.Host, Header: make(http.Header), URL: &url.URL{Scheme: "http", Host: in.Host, Path: in.URL.Path, RawPath: in.URL.RawPath, RawQuery: in.URL.RawQuery}}
	hostSigned := false
	for _, name := range s.headers {
		switch name {
		case "host":
			hostSigned = true
		case "content-length":
			again.ContentLength = int64(len(body))
		case "x-amz-date", "x-amz-security-token": // set by the signer
		default:
			again.Header[http.CanonicalHeaderKey(name)] = in.Header.Values(name)
		}
	}
	if !hostSigned || s.service != "bedrock" {
		return false
	}
	if err := sign(in.Context(), again, body, c, s.region, at); err != nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(parseSignature(again.Header.Get("Authorization")).value), []byte(s.value)) == 1
}

// sign signs a request to Bedrock.
func sign(ctx context.Context, r *http.Request, body []byte, c aws.Credentials, region string, at time.Time) error {
	sum := sha256.Sum256(body)
	return v4.NewSigner().SignHTTP(ctx, c, r, hex.EncodeToString(sum[:]), "bedrock", region, at)
}

// withoutSignature removes what belongs to the caller's signature.
func withoutSignature(h http.Header) {
	for _, name := range [...]string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256"} {
		delete(h, name)
	}
}

// signed reports whether an Authorization header is an AWS signature.
func signed(authorization string) bool { return strings.HasPrefix(authorization, awsAlgorithm) }
