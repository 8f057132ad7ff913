{ outputs = { self }: { greeting = "hello from the input"; }; }
