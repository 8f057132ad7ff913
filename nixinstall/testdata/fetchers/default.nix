(builtins.getFlake (toString ./.)).packages.x86_64-linux.default
