package page

import (
	"testing"
	"time"
)

// TestPeriod: a time range in the fewest words that say it.
func TestPeriod(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	at := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2026, month, day, hour, minute, 0, 0, paris)
	}
	for want, c := range map[string][2]time.Time{
		"Mon 16 – Sun 22 Nov":                          {at(11, 16, 0, 0), at(11, 23, 0, 0)},
		"Mon 16 – Sun 22 Nov, until 15:04":             {at(11, 16, 0, 0), at(11, 22, 15, 4)},
		"Mon 26 Oct – Sun 1 Nov":                       {at(10, 26, 0, 0), at(11, 2, 0, 0)},
		"Mon 28 Dec 2026 – Sun 3 Jan 2027":             {at(12, 28, 0, 0), at(13, 4, 0, 0)},
		"Sat 21 Nov":                                   {at(11, 21, 0, 0), at(11, 22, 0, 0)},
		"Sat 21 Nov, until 09:30":                      {at(11, 21, 0, 0), at(11, 21, 9, 30)},
		"Sat 21 Nov, 14:04 – 15:04":                    {at(11, 21, 14, 4), at(11, 21, 15, 4)},
		"Fri 20 Nov 15:04 – Sat 21 Nov 15:04":          {at(11, 20, 15, 4), at(11, 21, 15, 4)},
		"Sun 29 Mar":                                   {at(3, 29, 0, 0), at(3, 30, 0, 0)}, // 23 hours
		"Mon 23 – Sun 29 Mar, until 15:00":             {at(3, 23, 0, 0), at(3, 29, 15, 0)},
		"Thu 31 Dec 2026 23:00 – Fri 1 Jan 2027 01:00": {at(12, 31, 23, 0), at(13, 1, 1, 0)},
	} {
		if got := Period(paris, c[0].UTC(), c[1].UTC()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
