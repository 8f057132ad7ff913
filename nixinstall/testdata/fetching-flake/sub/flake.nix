{ outputs = { self }: { app = derivation { name = "sub"; system = "x86_64-linux"; builder = "/bin/sh"; src = self; }; }; }
