{
  inputs.inner.url = "path:./inner";
  outputs = { self, inner }:
    let
      narHash = "sha256-VevJqxrVPzWd9aYFs5an5tryp+JljEO6EE2D/3QZfew=";
      sub = toString ./sub;
      query = "?narHash=${builtins.replaceStrings [ "+" "/" "=" ] [ "%2B" "%2F" "%3D" ] narHash}";
      d = name: src: derivation { inherit name src; system = "x86_64-linux"; builder = "/bin/sh"; };
    in
    {
      # What an ordinary Nix takes, as its hash says what it is.
      packages.x86_64-linux = {
        tree = d "t" (builtins.fetchTree { type = "path"; path = ./sub; inherit narHash; });
        treeOfSelf = d "t" (builtins.fetchTree { type = "path"; path = "${self}/sub"; inherit narHash; });
        treeCopied = d "t" (builtins.fetchTree { type = "path"; path = "${./sub}"; inherit narHash; });
        treeURL = d "t" (builtins.fetchTree "path:${self}/sub${query}");
        treeFile = d "f" (builtins.fetchTree { type = "file"; url = "file://${self}/sub/f"; narHash = "sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM="; });
        treeTarball = d "a" (builtins.fetchTree { type = "tarball"; url = "file://${self}/data.tgz"; narHash = "sha256-HX8etFybQRd9KN4Q8f16R2dli8FyAZc+JmPhUA7R2Tc="; });
        flake = (builtins.getFlake "path:${sub}${query}").app;
        flakeRef = (builtins.getFlake (builtins.flakeRefToString { type = "path"; path = sub; inherit narHash; })).app;
        url = d "u" (builtins.fetchurl { url = "file://${sub}/f"; sha256 = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="; });
        tarball = d "a" (fetchTarball { url = "file://${toString ./data.tgz}"; sha256 = "sha256-HX8etFybQRd9KN4Q8f16R2dli8FyAZc+JmPhUA7R2Tc="; });
        imported = import ./imported.nix { inherit narHash; };
        input = inner.app;
        selfAgain = self.packages.x86_64-linux.tree;
      };
      # What it refuses.
      refused = {
        unlocked = builtins.fetchTree { type = "path"; path = ./sub; };
        unlockedFlake = builtins.getFlake sub;
        context = builtins.getFlake "path:${self}/sub${query}";
        urlContext = builtins.fetchurl { url = "file://${self}/sub/f"; sha256 = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="; };
        otherHash = builtins.fetchTree { type = "path"; path = ./sub; narHash = "sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM="; };
        missing = builtins.fetchTree { type = "path"; path = ./missing; inherit narHash; };
      };
    };
}
