package reconcile

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/hedgerow/hedgerow/event"
)

// AWS's Cost and Usage Report, in the columns of the legacy report (lineItem/UsageType)
// and of CUR 2.0 in Data Exports (line_item_usage_type; product is a map). Only the
// lines of Amazon Bedrock count. Amazon's own models are billed as the product
// AmazonBedrock with usage types such as USE1-NovaLite-input-tokens-batch; models of
// other vendors from the marketplace as a product "… (Amazon Bedrock Edition)" with
// usage types such as USW2-MP:USW2_InputTokenCount-Units (Amazon Bedrock user guide,
// "Understanding your Amazon Bedrock Cost and Usage Report data").

var awsFamilies = []string{"bill_", "identity_", "line_item_", "pricing_", "product_", "reservation_", "savings_plan_", "split_line_item_", "resource_tags", "cost_category", "discount_", "tags_", "capacity_reservation_", "iam_principal"}

var awsStart = []string{"line_item_usage_start_date", "bill_billing_period_start_date"}

var awsCUR = format{
	name: "AWS Cost and Usage Report",
	known: func(name string) bool {
		for _, f := range awsFamilies {
			if strings.HasPrefix(name, f) {
				return true
			}
		}
		switch name {
		case "product", "discount", "tags", "billing_period":
			return true
		}
		return false
	},
	is: func(has func(string) bool) bool {
		return has("line_item_usage_type") && has("line_item_unblended_cost")
	},
	feed: func(record) Feed { return AWSCostAndUsage },
	read: readAWS,
}

func readAWS(r record, c *collector) error {
	product := productName(r)
	usage, description := r.text("line_item_usage_type"), r.text("line_item_line_item_description")
	day, err := r.day(awsStart, nil)
	if err != nil {
		return err
	}
	if !strings.Contains(strings.ToLower(r.text("line_item_product_code", "product_servicecode", "product_service_code")), "bedrock") && !strings.Contains(strings.ToLower(product+description), "bedrock") {
		c.note("lines of other AWS services, left out: " + times)
		return c.cover(day) // a day without Bedrock is one of 0 USD
	}
	usd, err := r.number("line_item_unblended_cost")
	if err != nil {
		return err
	}
	n, err := r.quantity("line_item_usage_amount")
	if err != nil {
		return err
	}
	if err := onlyUSD(r, r.text("line_item_currency_code")); err != nil {
		return err
	}
	l := Line{Day: day, Account: r.text("line_item_usage_account_id"), USD: usd, Item: usage}
	switch kind := r.text("line_item_line_item_type"); kind {
	case "", "Usage", "DiscountedUsage", "SavingsPlanCoveredUsage":
	default: // Tax, Credit, Refund, Fee, EdpDiscount …
		if l.Kind, l.Item = Other, kind; description != "" && description != kind {
			l.Item += ": " + event.FirstChars(description, 100)
		}
		return c.add(l)
	}
	l.Kind, l.Tier = awsUsage(usage)
	if !l.Kind.usage() {
		return c.add(l)
	}
	// Taxes and fees are of their month; a report by month has its usage on its first day.
	if _, err := r.day(awsStart, []string{"line_item_usage_end_date"}); err != nil {
		return err
	}
	l.Model = awsModel(usage, product)
	unit := strings.ToLower(r.text("pricing_unit") + " " + description)
	switch {
	case !n.Known || n.Value.IsNegative():
	case strings.Contains(unit, "1k token"), strings.Contains(unit, "thousand"), strings.Contains(unit, "1,000 token"), strings.Contains(unit, "1000 token"):
		l.Quantity = event.Some(n.Value.Shift(3))
	case strings.Contains(unit, "1m token"), strings.Contains(unit, "million"):
		l.Quantity = event.Some(n.Value.Shift(6))
	case !l.Kind.tokens(), strings.HasPrefix(unit, "token"), strings.HasPrefix(unit, "count"):
		l.Quantity = n
	default:
		c.note(fmt.Sprintf("lines in %q, whose number of tokens is not known: ", event.FirstChars(clean(r.text("pricing_unit")), 40)) + times + " (their amounts count)")
	}
	return c.add(l)
}

// productName is what the product is called. In CUR 2.0 product is a JSON object.
func productName(r record) string {
	if name := r.text("product_product_name", "product_name", "product_servicename", "product_service_name"); name != "" {
		return name
	}
	var p map[string]string
	if json.Unmarshal([]byte(r.text("product")), &p) == nil {
		for _, k := range []string{"product_name", "servicename", "service_name"} {
			if p[k] != "" {
				return p[k]
			}
		}
	}
	return ""
}

// awsUsage is the kind and tier of a usage type.
func awsUsage(usage string) (Kind, string) {
	u := strings.NewReplacer("_", "-").Replace(strings.ToLower(usage))
	has := func(s string) bool { return strings.Contains(u, s) }
	tier := Standard
	for _, t := range []string{"batch", "flex", "priority", "reserved"} {
		if has("-"+t) || has(t+"-") || has("inputtokencount"+t) || has("outputtokencount"+t) {
			tier = t
		}
	}
	switch {
	case has("guardrail"), has("provisioned"), has("customization"), has("training"), has("knowledge"), has("modelunit"):
		return Other, ""
	case has("cache-read"), has("cacheread"):
		return CacheRead, tier
	case has("cache-write") || has("cachewrite"):
		if has("1h") || has("1-hour") {
			return CacheWrite1h, tier
		}
		return CacheWrite, tier
	case has("input") && (has("audio") || has("speech")):
		return InputAudio, tier
	case has("output") && (has("audio") || has("speech")):
		return OutputAudio, tier
	case has("input") && has("image"):
		return InputImage, tier
	case has("token") && has("input"):
		return Input, tier
	case has("token") && has("output"):
		return Output, tier
	case has("image"):
		return Images, tier
	case has("video"), has("second"):
		return Seconds, tier
	}
	return Other, ""
}

var (
	awsRegion = regexp.MustCompile(`^[A-Z]{2,4}[0-9]*-`)
	awsTail   = regexp.MustCompile(`(?i)[-_](?:mantle-)?(?:text-|image-|video-|audio-|speech-)*(?:cache-?(?:read|write)|input|output)[-_]?.*$`)
	awsPieces = regexp.MustCompile(`(?i)[-_](?:t2i|i2i|image|video|embeddings?).*$`)
)

// awsModel is the model of a usage type: of USE1-Claude4.6Sonnet-input-tokens
// Claude4.6Sonnet. Products of the marketplace name it themselves.
func awsModel(usage, product string) string {
	if name, _, ok := strings.Cut(product, " ("); ok && strings.Contains(product, "Bedrock Edition") {
		return name
	}
	usage = awsRegion.ReplaceAllString(usage, "")
	if strings.HasPrefix(usage, "MP:") {
		return ""
	}
	if m := awsTail.ReplaceAllString(usage, ""); m != usage {
		return m
	}
	return awsPieces.ReplaceAllString(usage, "")
}
