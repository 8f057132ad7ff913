package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

const nginxConfiguration = `daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/errors;
events { worker_connections 512; }
http {
	access_log off; sendfile on; default_type text/plain;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3;
	uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	server { listen 127.0.0.1:%[2]d; root %[3]s; }
}
`

// nginx is a running nginx of the closure's.
type nginx struct {
	world
	url     string
	command *exec.Cmd
	stderr  bytes.Buffer
}

// serves compares how many requests a second nginx answers with a small file of the closure.
func (b *Bench) serves(ctx context.Context, f *fixture, w *worlds) error {
	wrk, err := b.Rig.Program(ctx, "wrk", "wrk")
	if err != nil {
		return err
	}
	file, err := page(f, w.dir)
	if err != nil {
		return err
	}
	var sites []*nginx
	defer func() {
		for _, s := range sites {
			s.stop()
		}
	}()
	for _, way := range []world{w.native, w.relocated, w.userns, w.proot} {
		s, err := b.serve(ctx, f, way, file)
		if err != nil && len(sites) >= 2 {
			b.Log("nginx does not work by %s here: %s", way.name, err)
			continue
		}
		if err != nil {
			return err
		}
		sites = append(sites, s)
	}
	rates := map[string][]float64{}
	for i := range 6 * b.Pairs {
		turn := slices.Clone(sites[:2])
		if i%2 == 1 {
			slices.Reverse(turn)
		}
		if i < b.Pairs {
			turn = append(turn, sites[2:]...)
		}
		for _, s := range turn {
			rate, err := s.rate(ctx, wrk)
			if err != nil {
				return err
			}
			rates[s.name] = append(rates[s.name], rate)
		}
	}
	native := rates["native"]
	b.row("launch.http.relocated_against_native", ratio(native, rates["relocated"]), "ratio", "<=1.02")
	b.row("launch.http.native", median(native), "requests/s", "")
	b.row("launch.http.relocated", median(rates["relocated"]), "requests/s", "")
	for _, s := range sites[2:] {
		b.row("launch.http."+s.name+"_against_native", median(native)/median(rates[s.name]), "ratio", "")
	}
	return nil
}

// page is a file of the interpreter's of about 5 kB, by its place below the store path.
func page(f *fixture, dir string) (string, error) {
	top := filepath.Join(dir, "n", f.python.String())
	best, off := "", int64(1<<62)
	err := filepath.WalkDir(top, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if away := max(info.Size()-5000, 5000-info.Size()); away < off {
			best, off = name, away
		}
		return nil
	})
	if err != nil || best == "" {
		return "", errors.Join(err, errors.New("finding a file to serve"))
	}
	return filepath.Rel(top, best)
}

// serve starts nginx on the interpreter's files, by the way that its own programs see them.
func (b *Bench) serve(ctx context.Context, f *fixture, w world, file string) (*nginx, error) {
	dir, err := b.newDir()
	if err != nil {
		return nil, err
	}
	port, err := rig.FreePort()
	if err != nil {
		return nil, err
	}
	root, err := w.prefix(ctx)
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConfiguration, dir, port, root), 0o644); err != nil {
		return nil, err
	}
	s := &nginx{world: w, url: fmt.Sprintf("http://127.0.0.1:%d/%s", port, file)}
	if s.command, err = w.command(ctx, "nginx", "-e", filepath.Join(dir, "errors"), "-c", conf); err != nil {
		return nil, err
	}
	s.command.Stderr = &s.stderr
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	if _, err := rig.Await(ctx, s.url, 20*time.Second, nil); err != nil {
		s.stop()
		return nil, fmt.Errorf("waiting for nginx of the %s world: %w: %s", w.name, err, tail(s.stderr.String()))
	}
	return s, nil
}

// prefix is where Python finds itself.
func (w world) prefix(ctx context.Context) (string, error) {
	c, err := w.command(ctx, "python3", "-I", "-c", "import sys; sys.stdout.write(sys.prefix)")
	if err != nil {
		return "", err
	}
	out, err := c.Output()
	return string(out), err
}

func (s *nginx) stop() {
	if s.command.Process == nil {
		return
	}
	_ = s.command.Process.Signal(syscall.SIGTERM)
	_ = s.command.Wait()
}

var requests = regexp.MustCompile(`Requests/sec:\s*([0-9.]+)`)
var failures = regexp.MustCompile(`Non-2xx|Socket errors`)

// rate is requests a second over 16 connections.
func (s *nginx) rate(ctx context.Context, wrk string) (float64, error) {
	out, err := exec.CommandContext(ctx, wrk, "-t1", "-c16", "-d1s", s.url).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("running wrk: %w: %s", err, tail(string(out)))
	}
	found := requests.FindSubmatch(out)
	if found == nil || failures.Match(out) {
		return 0, fmt.Errorf("running wrk against the %s world: %s", s.name, tail(string(out)))
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
