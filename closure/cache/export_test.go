package cache

// SetMaxUnsignedSize has less taken of what nobody signed.
func (o *Options) SetMaxUnsignedSize(n int64) { o.maxUnsignedSize = n }
