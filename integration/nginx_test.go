package integration_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// TestNginx builds from a cache that Debian's nginx serves and limits.
func TestNginx(t *testing.T) { spec.Run(t, "nginx", testNginx, spec.Report(report.Terminal{})) }

const limitedNginx = `daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/errors;
events { worker_connections 512; }
http {
	log_format status "$status"; access_log %[1]s/access status;
	limit_req_zone $server_name zone=all:1m rate=50r/s;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3;
	uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	server {
		listen 127.0.0.1:%[2]d; root %[3]s;
		limit_req zone=all burst=20 nodelay; limit_req_status %[4]s;
		%[5]s
	}
}
`

func testNginx(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// serve starts nginx in front of a cache's directory; answered gives how often it said which status.
	serve := func(dir, status, more string) (url string, answered func(string) int) {
		program, err := realParts(t).rig.Program(t.Context(), "nginx", "nginx")
		must(err)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		port := listener.Addr().(*net.TCPAddr).Port
		must(listener.Close())
		state := t.TempDir()
		file := filepath.Join(state, "nginx.conf")
		must(os.WriteFile(file, fmt.Appendf(nil, limitedNginx, state, port, dir, status, more), 0o644))
		var said strings.Builder
		command := exec.Command(program, "-p", state, "-e", filepath.Join(state, "errors"), "-c", file)
		command.Stderr = &said
		must(command.Start())
		t.Cleanup(func() {
			_ = command.Process.Signal(syscall.SIGTERM)
			_ = command.Wait()
		})
		url = fmt.Sprintf("http://127.0.0.1:%d", port)
		Eventually(func() error {
			answer, err := http.Get(url + "/nix-cache-info")
			if err == nil {
				answer.Body.Close()
			}
			return err
		}, 10*time.Second, 50*time.Millisecond).Should(Succeed(), said.String())
		return url, func(status string) int {
			text, err := os.ReadFile(filepath.Join(state, "access"))
			must(err)
			return strings.Count(string(text), status+"\n")
		}
	}

	for _, c := range []struct{ status, more string }{
		{"503", ""}, {"429", ""}, {"429", "add_header Retry-After 1 always;"},
	} {
		it(fmt.Sprintf("that takes 50 requests a second and refuses more with %s %sserves all of 300 paths", c.status, c.more), func() {
			f := newForge(t, "cache-1", "secret")
			var paths []storepath.Path
			for i := range 300 {
				paths = append(paths, f.forged(fmt.Sprintf("p%d", i), map[string]string{"file": fmt.Sprint(i)}))
			}
			app := f.forged("app", map[string]string{"bin/app": script("app")}, paths...)
			url, answered := serve(f.dir, c.status, c.more)
			b := bare(t, "g")
			env := f.env("BP_NIX_SUBSTITUTERS", url, "BP_NIX_STORE_PATH", storePaths(app))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			o, err := b.Build(ctx, sourceOf(t, map[string]string{"Procfile": "web: run_proot.sh app\n"}), env)
			must(err)
			Expect(o.Status).To(Equal(0), o.Log)
			Expect(o.Log).To(ContainSubstring("301"))
			Expect(answered(c.status)).To(BeNumerically("<", answered("200")), "more refusals than answers")
		})
	}
}
