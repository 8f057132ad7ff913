// A plug-in of QEMU's (docs/devel/tcg-plugins.rst) that counts the instructions of the program it runs, and writes them to
// the file that its argument out= names. The functions are those of QEMU's qemu-plugin.h, which no package of Debian's has.
#include <stdint.h>
#include <stddef.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct block;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t id, struct block *));
size_t qemu_plugin_tb_n_insns(const struct block *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int add, void *to, uint64_t number);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*at_exit)(uint64_t id, void *), void *);

int qemu_plugin_version = 1;

static uint64_t count;
static const char *out;

static void translated(uint64_t id, struct block *block)
{
	qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &count, qemu_plugin_tb_n_insns(block));
}

static void at_exit(uint64_t id, void *nothing)
{
	int file = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	dprintf(file, "%llu", (unsigned long long)count);
}

int qemu_plugin_install(uint64_t id, const void *about, int number, char **arguments)
{
	if (number != 1 || strncmp(arguments[0], "out=", 4) != 0)
		return 1;
	out = arguments[0] + 4;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, at_exit, NULL);
	return 0;
}
