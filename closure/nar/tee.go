package nar

// Tee is a sink that sends everything to first and then to second.
func Tee(first, second Sink) Sink { return &tee{first, second} }

type tee struct{ first, second Sink }

func (t *tee) Entry(e *Entry) error {
	if err := t.first.Entry(e); err != nil {
		return err
	}
	return t.second.Entry(e)
}

func (t *tee) Write(p []byte) (int, error) {
	if n, err := t.first.Write(p); err != nil {
		return n, err
	}
	return t.second.Write(p)
}

func (t *tee) Close() error {
	if err := t.first.Close(); err != nil {
		return err
	}
	return t.second.Close()
}
