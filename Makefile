# A thin front of tools/build (Meson) and ./check; `make` builds a release into bin/.
.PHONY: all check check-long lint format docs asan tsan fuzz clean

all:
	@tools/build release

check:
	@./check

check-long:
	@DUCT_LONG=1 ./check

# Formatting, and the layer rules of the source tree.
lint:
	@tools/lint

format:
	@git ls-files 'src/*.[ch]' 'tests/*.[ch]' | xargs -r clang-format-14 -i

# Writes the generated documents again; ./check fails when they differ from the committed ones.
docs: all
	@"$${DUCTSTREAM_CACHE:-.cache}/venv/bin/python" tests/generated.py --write

asan tsan fuzz:
	@tools/build $@

clean:
	@rm -rf build build-asan build-tsan build-fuzz bin
