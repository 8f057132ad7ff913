package rig

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
)

// A port is below those that the kernel hands out, and is claimed for as long as the process lives.
func TestAFreePortIsNobodyElses(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	var lowest, highest int
	if _, err := fmt.Sscan(string(text), &lowest, &highest); err != nil {
		t.Fatal(err)
	}
	given := map[int]bool{}
	for range 200 {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if port >= lowest || given[port] {
			t.Fatalf("port %d of those from %d, given before: %v", port, lowest, given[port])
		}
		given[port] = true
	}
	runtime.GC()
	for port := range given {
		if claim, err := net.Listen("unix", fmt.Sprintf("@nix-hydra-rig-port-%d", port)); err == nil {
			_ = claim.Close()
			t.Fatalf("port %d can be claimed again", port)
		}
	}
}
