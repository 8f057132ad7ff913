let
  mk = name: extra: derivation ({ inherit name; system = builtins.currentSystem; builder = "/bin/sh"; } // extra);
in
{
  server = mk "server" { outputs = [ "bin" "dev" ]; } // { meta.mainProgram = "server"; };
  tools = {
    recurseForDerivations = true;
    migrate = mk "migrate" { };
  };
  lib = { hidden = mk "hidden" { }; version = "1"; };
  "quoted.name" = mk "quoted" { };
  needs = { name }: mk name { };
  list = [ (mk "first" { }) (mk "second" { }) ];
}
