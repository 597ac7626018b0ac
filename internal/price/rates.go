package price

import (
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
)

// USD is an amount that may be unknown.
type USD = event.Opt[decimal.Decimal]

// Rates are prices of tokens, in USD per token, and of pieces, in USD each. An
// unknown rate is not 0: [Table.Price] falls back as its comment says, or leaves the
// part without a cost.
type Rates struct {
	Input          USD
	Output         USD
	CacheRead      USD
	CacheWrite     USD // written for five minutes, or for the provider's default lifetime
	CacheWrite1h   USD
	CacheWrite12h  USD
	Reasoning      USD // only where it differs from Output
	InputAudio     USD
	OutputAudio    USD
	CacheReadAudio USD
	InputImage     USD // tokens of pictures, not pictures
	OutputImage    USD
	CacheReadImage USD
	InputVideo     USD
	OutputVideo    USD

	Request     USD // per call
	WebSearch   USD // per search of the web, or grounded answer
	FileSearch  USD // per search in stored files
	CodeSession USD // per container in which the provider runs code
	SearchUnit  USD // per search of a reranker
	Hour        USD // of sound or video; by the hour because per second 0.04 USD an hour has no end
	Character   USD // spoken
	Page        USD // read
	Image       USD // made
}

// rate names one kind of price in files and in differences. Its unit in files is
// one, or a million where shift says so.
type rate struct {
	name  string
	shift int32
	piece bool // not a price of tokens, so that no factor applies
	at    func(*Rates) *USD
}

// rates lists the kinds in the order in which people read them.
var rates = []rate{
	{"input", perMillion, false, func(r *Rates) *USD { return &r.Input }},
	{"output", perMillion, false, func(r *Rates) *USD { return &r.Output }},
	{"cache_read", perMillion, false, func(r *Rates) *USD { return &r.CacheRead }},
	{"cache_write", perMillion, false, func(r *Rates) *USD { return &r.CacheWrite }},
	{"cache_write_1h", perMillion, false, func(r *Rates) *USD { return &r.CacheWrite1h }},
	{"cache_write_12h", perMillion, false, func(r *Rates) *USD { return &r.CacheWrite12h }},
	{"reasoning", perMillion, false, func(r *Rates) *USD { return &r.Reasoning }},
	{"input_audio", perMillion, false, func(r *Rates) *USD { return &r.InputAudio }},
	{"output_audio", perMillion, false, func(r *Rates) *USD { return &r.OutputAudio }},
	{"cache_read_audio", perMillion, false, func(r *Rates) *USD { return &r.CacheReadAudio }},
	{"input_image", perMillion, false, func(r *Rates) *USD { return &r.InputImage }},
	{"output_image", perMillion, false, func(r *Rates) *USD { return &r.OutputImage }},
	{"cache_read_image", perMillion, false, func(r *Rates) *USD { return &r.CacheReadImage }},
	{"input_video", perMillion, false, func(r *Rates) *USD { return &r.InputVideo }},
	{"output_video", perMillion, false, func(r *Rates) *USD { return &r.OutputVideo }},
	{"request", 0, true, func(r *Rates) *USD { return &r.Request }},
	{"web_search", 0, true, func(r *Rates) *USD { return &r.WebSearch }},
	{"file_search", 0, true, func(r *Rates) *USD { return &r.FileSearch }},
	{"code_session", 0, true, func(r *Rates) *USD { return &r.CodeSession }},
	{"search_unit", 0, true, func(r *Rates) *USD { return &r.SearchUnit }},
	{"hour", 0, true, func(r *Rates) *USD { return &r.Hour }},
	{"character", perMillion, true, func(r *Rates) *USD { return &r.Character }},
	{"page", 0, true, func(r *Rates) *USD { return &r.Page }},
	{"image", 0, true, func(r *Rates) *USD { return &r.Image }},
}

// perMillion is the power of ten between the two units.
const perMillion = 6

// maxPerToken bounds what is taken for a price. A cent a token, 10,000 USD per
// million, is far beyond any model: more is a mistake of the unit.
var maxPerToken = decimal.New(1, -2)

// maxPerUse bounds the price of one request, search or picture, in USD, and maxPerHour
// that of an hour of video.
var (
	maxPerUse  = decimal.New(1000, 0)
	maxPerHour = decimal.New(10_000, 0)
)

func (k *rate) limit() decimal.Decimal {
	switch {
	case k.shift == perMillion:
		return maxPerToken
	case k.name == "hour":
		return maxPerHour
	}
	return maxPerUse
}

// over returns r with base's rates where r has none.
func (r Rates) over(base Rates) Rates {
	for i := range rates {
		if v := rates[i].at(&r); !v.Known {
			*v = *rates[i].at(&base)
		}
	}
	return r
}

// Tier holds the rates of long prompts. It applies to the whole call when the
// prompt, cached tokens included, has more than Above tokens; among several the
// highest that applies wins. A rate that the tier does not name is the row's.
type Tier struct {
	Above int64
	Rates
}

// Period is a price that replaces a row's own one for a time: before or from a day on,
// or for some hours of each day. Of several that hold the last in the list decides.
type Period struct {
	From       time.Time     // UTC midnight; zero: always
	To         time.Time     // UTC midnight, excluded; zero: unlimited
	Start, End time.Duration // of the day, UTC; End is excluded and may lie after midnight; equal: all day
	Weekdays   bool          // only from Monday to Friday, UTC
	Rates
	Tiers []Tier
}

func (p *Period) holds(at time.Time) bool {
	if at.Before(p.From) || !p.To.IsZero() && !at.Before(p.To) {
		return false
	}
	at = at.UTC()
	if d := at.Weekday(); p.Weekdays && (d == time.Saturday || d == time.Sunday) {
		return false
	}
	if p.Start == p.End {
		return true
	}
	day := at.Sub(at.Truncate(24 * time.Hour))
	if p.End < p.Start {
		return day >= p.Start || day < p.End
	}
	return day >= p.Start && day < p.End
}

// Variant is what a way of calling changes in a price: a tier, batches, a speed, a
// region, the size of a picture. Rates that it names replace the row's; Factor
// multiplies every price of tokens after that.
type Variant struct {
	When   string    // conditions that must all hold, "key=value" parted by "&"
	From   time.Time // UTC midnight; zero: always
	Factor USD       // of the prices of tokens
	Rates
	Tiers []Tier
}

// The keys of [Variant.When]. Their values are in lower case.
const (
	keyTier       = "service_tier" // flex, priority, fast, ultrafast, scale …
	keyProcessing = "processing"   // batch
	keySpeed      = "speed"        // fast
	keyGeo        = "geo"          // us, eu
	keySize       = "size"         // of a picture or a video: 1024x1024
	keyQuality    = "quality"      // of a picture: standard, hd
	keyPages      = "pages"        // annotated: read with a schema for what they show
)

// factors are what the event says of the way it was called.
type factors struct{ tier, processing, speed, geo, size, quality, pages string }

// standardTiers are the providers' words for a call at the standard price.
var standardTiers = map[string]bool{"": true, "auto": true, "default": true, "standard": true, "standard_only": true, "on_demand": true, "unspecified": true, "service_tier_unspecified": true, "traffic_type_unspecified": true}

// standardGeos are the providers' words for no region in particular.
var standardGeos = map[string]bool{"": true, "global": true, "default": true, "not_available": true, "none": true}

// factorsOf reads them. The tier counts that the provider answered with, not the one
// that was asked for.
func factorsOf(e *event.Event) (f factors) {
	if e.ServiceTier != "" {
		tier := lower(e.ServiceTier)
		tier = strings.TrimPrefix(tier, "service_tier_")
		if rest, ok := strings.CutPrefix(tier, "on_demand_"); ok { // Gemini's trafficType
			tier = rest
		}
		switch {
		case standardTiers[tier]:
		case tier == "batch" || tier == "batches":
			f.processing = "batch"
		default:
			f.tier = tier
		}
	}
	if speed := lower(e.Speed); speed != "standard" && speed != "default" {
		f.speed = speed
	}
	if geo := lower(e.InferenceGeo); !standardGeos[geo] {
		f.geo = geo
	}
	if f.geo == "" && e.BaseURL != "" && e.Provider == "openai" {
		if _, host, _ := strings.Cut(e.BaseURL, "://"); strings.HasPrefix(host, "eu.api.openai.com") {
			f.geo = "eu" // regional processing
		} else if strings.HasPrefix(host, "us.api.openai.com") {
			f.geo = "us"
		}
	}
	if len(e.ModelParameters) > 0 && (e.Usage.Images.Known || e.Usage.MediaTime.Known) {
		f.size, f.quality = lower(rawString(e.ModelParameters["size"])), lower(rawString(e.ModelParameters["quality"]))
	}
	if e.Usage.Pages.Known {
		for _, name := range []string{"document_annotation_format", "bbox_annotation_format"} {
			if raw := e.ModelParameters[name]; raw != nil && string(raw) != "null" {
				f.pages = "annotated"
			}
		}
	}
	return f
}

func lower(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func (f *factors) value(key string) string {
	switch key {
	case keyTier:
		return f.tier
	case keyProcessing:
		return f.processing
	case keySpeed:
		return f.speed
	case keyGeo:
		return f.geo
	case keySize:
		return f.size
	case keyQuality:
		return f.quality
	case keyPages:
		return f.pages
	}
	return ""
}

// conditions of a variant, in pairs.
func conditions(when string) (list [][2]string) {
	for part := range strings.SplitSeq(when, "&") {
		key, value, _ := strings.Cut(part, "=")
		list = append(list, [2]string{key, value})
	}
	return list
}

func (v *Variant) meets(f *factors) bool {
	for rest := v.When; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "&")
		key, value, _ := strings.Cut(part, "=")
		if f.value(key) != value {
			return false
		}
	}
	return true
}

// sameBase reports whether two standard prices agree on the rates that the variant
// replaces.
func (v *Variant) sameBase(a, b *Rates) bool {
	for i := range rates {
		if rates[i].at(&v.Rates).Known && !equal(*rates[i].at(a), *rates[i].at(b)) {
			return false
		}
	}
	return true
}

// at are the rates for a prompt of so many tokens: r, and what the tier for it says.
func at(r *Rates, tiers []Tier, prompt int64) *Rates {
	for i := len(tiers) - 1; i >= 0; i-- {
		if prompt > tiers[i].Above {
			return &tiers[i].Rates // complete: see index.put
		}
	}
	return r
}

// At returns the row with the prices of a time in place of its own, without
// periods.
func (r Row) At(when time.Time) Row {
	for i := len(r.Periods) - 1; i >= 0; i-- {
		if p := &r.Periods[i]; p.holds(when) {
			r.Rates, r.Tiers = p.Rates, p.Tiers
			break
		}
	}
	r.Periods = nil
	return r
}

// standard are the rates of a call at the standard price.
func (e *entry) standard(when time.Time, prompt int64) *Rates {
	for i := len(e.Periods) - 1; i >= 0; i-- {
		if p := &e.Periods[i]; p.holds(when) {
			return at(&p.Rates, p.Tiers, prompt)
		}
	}
	return at(&e.Rates, e.ready, prompt)
}

// ratesAt are the rates of one call. missing names what the answer says of how the
// call was made and the row has no price for: the call then has no known price, for
// the standard one would be wrong.
func (e *entry) ratesAt(f *factors, when time.Time, prompt int64) (r *Rates, missing string) {
	r = e.standard(when, prompt)
	if *f == (factors{}) {
		return r, ""
	}
	need := *f
	need.size, need.quality = "", "" // most prices do not depend on them
	var own Rates
	factor := decimal.NewFromInt(1)
	found := false
	// A price of a tier was the same before the day on which it was first read,
	// as long as the standard price was: the earliest also applies to the time
	// before.
	taken := make(map[string]bool, 4)
	for _, early := range []bool{false, true} {
		for i := range e.Variants {
			v := &e.Variants[i]
			if !v.meets(f) || v.From.After(when) != early || early && taken[v.When] {
				continue
			}
			if early { // of several that are still to come the earliest
				for j := i + 1; j < len(e.Variants); j++ {
					if w := &e.Variants[j]; w.When == v.When && w.From.Before(v.From) {
						v = w
					}
				}
			}
			if early && !v.sameBase(e.standard(v.From, prompt), r) {
				continue
			}
			first := !taken[v.When]
			taken[v.When], found = true, true
			own = own.over(*at(&v.Rates, v.Tiers, prompt))
			if v.Factor.Known && first {
				factor = factor.Mul(v.Factor.Value)
			}
			for _, c := range conditions(v.When) {
				switch c[0] {
				case keyTier:
					need.tier = ""
				case keyProcessing:
					need.processing = ""
				case keySpeed:
					need.speed = ""
				case keyGeo:
					need.geo = ""
				case keyPages:
					need.pages = ""
				}
			}
		}
	}
	for _, n := range [...][2]string{{keyTier, need.tier}, {keyProcessing, need.processing}, {keySpeed, need.speed}, {keyGeo, need.geo}, {keyPages, need.pages}} {
		if n[1] != "" {
			return r, n[0] + " " + n[1]
		}
	}
	if !found {
		return r, ""
	}
	own = own.over(*r)
	if !factor.Equal(decimal.NewFromInt(1)) {
		for i := range rates {
			if v := rates[i].at(&own); v.Known && !rates[i].piece {
				v.Value = v.Value.Mul(factor)
			}
		}
	}
	return &own, ""
}
