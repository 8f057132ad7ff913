let
  helper = x: if x > 2 then throw "the number ${toString x} is too large" else x;
in
{
  app = derivation {
    name = "app-${toString (helper 3)}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
  };
}
