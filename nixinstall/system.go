package nixinstall

// ForSystem gives a toolchain that evaluates for another system, and otherwise as this one does.
func (t Toolchain) ForSystem(system string) Toolchain {
	t.settings.System = system
	return t
}
