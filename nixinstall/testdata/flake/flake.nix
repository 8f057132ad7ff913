{
  inputs.dep.url = "path:./dep";

  outputs = { self, dep }:
    let
      app = name: system: derivation {
        inherit name system;
        builder = "/bin/sh";
        src = self;
        text = "${./message.txt} ${dep.greeting}";
        rev = self.rev or "unknown";
        date = self.lastModifiedDate;
      };
    in
    {
      packages.x86_64-linux = {
        default = app "app" "x86_64-linux";
        server = app "server" "x86_64-linux" // { meta.mainProgram = "serve"; };
      };
      packages.aarch64-linux = {
        default = app "app" "aarch64-linux";
        server = app "server" "aarch64-linux" // { meta.mainProgram = "serve"; };
      };
      hydraJobs.app.x86_64-linux = app "app" "x86_64-linux";
      hydraJobs.app.aarch64-linux = app "app" "aarch64-linux";
    };
}
