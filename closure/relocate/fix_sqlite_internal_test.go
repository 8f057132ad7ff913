package relocate

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// TestGeneratedColumns finds the expressions of columns, each with what is in it, and looks at no text twice.
func TestGeneratedColumns(t *testing.T) {
	g := NewWithT(t)
	g.Expect(generated("create table t(a, b as (f(a)), c AS(cast(a as (x))) stored)")).To(Equal([]string{"f(a)", "cast(a as (x))"}))
	g.Expect(generated(strings.Repeat("as(", 300_000))).To(HaveLen(1))
}
