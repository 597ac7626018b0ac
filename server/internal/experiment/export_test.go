package experiment

// Normalise fills in defaults, as creating does.
func Normalise(d *Definition) error { return d.normalise() }
