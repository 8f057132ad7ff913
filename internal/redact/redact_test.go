package redact

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestHidesUserNamesPasswordsAndUnknownParametersWhereverAURLStands(t *testing.T) {
	g := NewWithT(t)
	for text, want := range map[string]string{
		"https://u:p@h/x?priority=1":                   "https://h/x?priority=1",
		"https://token@h/x":                            "https://h/x",
		"https://h/x?X-Amz-Signature=a&hash=b#f":       "https://h/x?X-Amz-Signature=hidden&hash=b",
		"https://h/?justatoken":                        "https://h/?hidden",
		`Get "https://u:p@h/x?token=y": no such host`:  `Get "https://h/x?token=hidden": no such host`,
		"nothing to hide, me@example.org":              "nothing to hide, me@example.org",
		"bad https://u:p@h:x%/y":                       "bad https://(unreadable URL)",
		`is "://user:secret@host"; want a URL`:         `is "://host"; want a URL`,
		"git+ssh://git@h/x and ssh://git:p@h/y":        "git+ssh://git@h/x and ssh://git@h/y",
		"git+https://h/x?ref=main&token=y&rev=1&dir=d": "git+https://h/x?ref=main&token=hidden&rev=1&dir=d",
		"s3://b?endpoint=u:p%40h":                      "s3://b?endpoint=hidden",
		"https://u:p/q@h/x and https://u:12/34@h/x":    "https://(unreadable URL) and https://hidden",
		"https://u:12?34@h or https://u:12#34@h":       "https://hidden or https://hidden",
		"https://u:p@q/r@h/x":                          "https://hidden",
		"https://h.example.org:8443/@babel/core":       "https://h.example.org:8443/@babel/core",
		"https://h/@babel and localhost:1/@babel":      "https://h/@babel and localhost:1/@babel",
		"http://[2001:db8::1]:8080/@babel":             "http://[2001:db8::1]:8080/@babel",
	} {
		g.Expect(Text(text)).To(Equal(want))
	}
}

func TestKeepsAnErrorsIdentity(t *testing.T) {
	g := NewWithT(t)
	err := Error(&url.Error{Op: "Get", URL: "https://u:p@h", Err: fmt.Errorf("asking https://u:p@h: %w", io.ErrUnexpectedEOF)})
	g.Expect(err).To(MatchError(io.ErrUnexpectedEOF))
	g.Expect(err.Error()).To(Equal("asking https://h: unexpected EOF"))
	plain := errors.New("plain")
	g.Expect(Error(plain)).To(BeIdenticalTo(plain))
	g.Expect(Error(nil)).To(Succeed())
}

func FuzzURL(f *testing.F) {
	f.Add("https://u:secretsecret@h/x?token=secretsecret")
	f.Add("x https://u:secretsecret@h:%/ y")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil || u.User == nil || u.Scheme == "" {
			return
		}
		if p, ok := u.User.Password(); ok && len(p) > 8 && strings.Contains(URL(u), p) &&
			!strings.Contains(u.Host+u.Path+u.RawQuery+u.Scheme+u.Opaque+u.User.Username(), p) {
			t.Fatalf("%q shows its password", URL(u))
		}
	})
}
