# Makes the archives of Python's family: archives.py TEXT PYTHON OUT.
import compileall, os, pathlib, sys, zipapp, zipfile

text, python, out = sys.argv[1:]
out = pathlib.Path(out)
source = f'PLACE = "{text}"\nimport pkgutil\ndef read():\n    return open(PLACE).read().strip()\n'
filler = "".join(f"{i} {i * 7919 % 10007}\n" for i in range(400))
when = (2000, 1, 1, 0, 0, 0)


def archive(name, files, method):
    with zipfile.ZipFile(out / "lib" / name, "w", method) as z:
        for path, contents in files.items():
            info = zipfile.ZipInfo(path, when)
            info.compress_type = method
            z.writestr(info, contents)


app = pathlib.Path("app")
(app / "__main__.py").write_text(source + "print('zipapp', read(), pkgutil.get_data('__main__', 'data.txt').split()[0].decode())\n")
(app / "data.txt").write_text(text + "\n" + filler)
os.utime(app / "__main__.py", (946684800, 946684800))
os.utime(app / "data.txt", (946684800, 946684800))
zipapp.create_archive(app, out / "bin/shop.pyz", interpreter=python, compressed=True)
for package, name, method in [("shopwheel", "shopwheel-1.0-py3-none-any.whl", zipfile.ZIP_DEFLATED), ("shopegg", "shopegg-1.0.egg", zipfile.ZIP_STORED)]:
    folder = pathlib.Path(package)
    folder.mkdir()
    (folder / "__init__.py").write_text(source)
    os.utime(folder / "__init__.py", (946684800, 946684800))
    compileall.compile_dir(folder, quiet=1, legacy=True, stripdir=str(folder), invalidation_mode=compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH)
    files = {f"{package}/{p.name}": p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
    files[f"{package}/data.txt"] = (text + "\n" + filler).encode()
    archive(name, files, method)
