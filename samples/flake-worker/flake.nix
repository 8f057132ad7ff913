{
  description = "A queue in a directory: a web process that takes jobs, and a worker that does them";

  outputs = { self }:
    let
      # Pinned by its contents; an input with a flake.lock does the same.
      pin = builtins.fromJSON (builtins.readFile ./nixpkgs.json);
      nixpkgs = builtins.fetchTarball {
        url = "https://github.com/${pin.owner}/${pin.repo}/archive/${pin.rev}.tar.gz";
        inherit (pin) sha256;
      };
      package = system: (import nixpkgs { inherit system; }).callPackage ./default.nix { };
      each = f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) [ "x86_64-linux" "aarch64-linux" ]);
    in
    {
      packages = each (system: { default = package system; });
      # What Hydra builds.
      hydraJobs.queue = each package;
    };
}
