package nixinstall

import "time"

// SetQuiet has Log hear of a long evaluation earlier.
func (s *Settings) SetQuiet(d time.Duration) { s.quiet = d }

// The formats that strangers write.
var (
	ParseDrv           = parseDrv
	ParseRegistrations = parseRegistrations
)
