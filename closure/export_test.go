package closure

// Changed is what a plan has that another had not.
var Changed = changed

// SetMaxUnprovenEntries has fewer entries taken of a path that only its contents prove.
func (o *Options) SetMaxUnprovenEntries(n int) { o.maxUnprovenEntries = n }
