// One system call at a time, for scenarios: what a shell's redirections blur (creating, truncating, splitting
// and retrying writes), this does exactly. Built without a C library, so that it runs everywhere.
//
//   raw write PATH VALUE   open for writing, one write, close; VALUE knows \n \0 and \\, and may be empty
//   raw read PATH          what is in it, with the same escapes
//   raw open PATH          open for reading and writing, close
//   raw hold PATH          open for reading and writing, print "held", and wait for a signal
//   raw open-nonblock PATH, raw hold-nonblock PATH   the same with O_NONBLOCK
//   raw vm GROUP ADDRESS   take a function of /dev/vfio/GROUP as QEMU does for a VM, print "held", and wait
//
// Prints "ok" or what it read, exit 0; or the name of the error, exit 1.

typedef unsigned long word;

static long call(long n, word a, word b, word c)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}
enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, IOCTL = 16, PAUSE = 34, EXIT = 60 };
enum { O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK = 04000 };

static word length(const char *s)
{
	word n = 0;

	while (s[n])
		n++;
	return n;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void put(const char *s)
{
	call(WRITE, 1, (word)s, length(s));
}

static void leave(int status)
{
	call(EXIT, status, 0, 0);
	__builtin_unreachable();
}

static void answer(long ret)
{
	static const struct {
		int number;
		const char *name;
	} names[] = { { 1, "EPERM" },	{ 2, "ENOENT" },  { 5, "EIO" },	    { 6, "ENXIO" },	{ 11, "EAGAIN" },
		      { 12, "ENOMEM" }, { 13, "EACCES" }, { 16, "EBUSY" },  { 17, "EEXIST" },	{ 19, "ENODEV" },
		      { 20, "ENOTDIR" }, { 21, "EISDIR" }, { 22, "EINVAL" }, { 28, "ENOSPC" },	{ 30, "EROFS" },
		      { 34, "ERANGE" }, { 38, "ENOSYS" }, { 95, "ENOTSUP" }, { 110, "ETIMEDOUT" } };
	char number[8] = "E", *p = number + sizeof(number) - 1;

	if (ret >= 0) {
		put("ok\n");
		leave(0);
	}
	for (word i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].number == -ret) {
			put(names[i].name);
			put("\n");
			leave(1);
		}
	}
	*p = 0;
	for (ret = -ret; ret; ret /= 10)
		*--p = '0' + ret % 10;
	put("E");
	put(p);
	put("\n");
	leave(1);
}

static word unescape(char *s)
{
	char *out = s, *in = s;

	for (; *in; in++) {
		if (*in == '\\' && in[1]) {
			in++;
			*out++ = *in == 'n' ? '\n' : *in == '0' ? 0 : *in;
		} else {
			*out++ = *in;
		}
	}
	return out - s;
}

static void show(const char *s, long n)
{
	for (; n > 0; s++, n--) {
		if (*s == '\n')
			put("\\n");
		else if (!*s)
			put("\\0");
		else if (*s == '\\')
			put("\\\\");
		else
			call(WRITE, 1, (word)s, 1);
	}
}

// linux/vfio.h, type 1; each must answer well, or its error is the answer
static void vm(const char *group, char *address)
{
	enum { API = 0x3b64, SET_IOMMU = 0x3b66, STATUS = 0x3b67, SET_CONTAINER = 0x3b68, DEVICE = 0x3b6a };
	struct {
		unsigned int size, flags;
	} status = { sizeof(status), 0 };
	long container, fd, ret;
	int number;

	container = call(OPEN, (word) "/dev/vfio/vfio", O_RDWR, 0);
	if (container < 0)
		answer(container);
	fd = call(OPEN, (word)group, O_RDWR, 0);
	if (fd < 0)
		answer(fd);
	ret = call(IOCTL, fd, STATUS, (word)&status);
	if (ret < 0)
		answer(ret);
	if (!(status.flags & 1)) {
		put("not viable\n");
		leave(1);
	}
	number = container;
	if ((ret = call(IOCTL, fd, SET_CONTAINER, (word)&number)) < 0 ||
	    (ret = call(IOCTL, container, SET_IOMMU, 1)) < 0 || (ret = call(IOCTL, fd, DEVICE, (word)address)) < 0)
		answer(ret);
}

__attribute__((used)) static void start(word *stack)
{
	static char buffer[65536];
	int argc = stack[0];
	char **argv = (char **)(stack + 1);
	long fd, ret, n = 0;

	if (argc < 3)
		leave(2);
	if (same(argv[1], "write") && argc == 4) {
		fd = call(OPEN, (word)argv[2], O_WRONLY, 0);
		if (fd < 0)
			answer(fd);
		answer(call(WRITE, fd, (word)argv[3], unescape(argv[3])));
	}
	if (same(argv[1], "read")) {
		fd = call(OPEN, (word)argv[2], O_RDONLY, 0);
		if (fd < 0)
			answer(fd);
		while ((ret = call(READ, fd, (word)(buffer + n), sizeof(buffer) - n)) > 0)
			n += ret;
		if (ret < 0)
			answer(ret);
		show(buffer, n);
		put("\n");
		leave(0);
	}
	if (same(argv[1], "vm") && argc == 4) {
		vm(argv[2], argv[3]);
	} else {
		n = same(argv[1], "open-nonblock") || same(argv[1], "hold-nonblock") ? O_NONBLOCK : 0;
		fd = call(OPEN, (word)argv[2], O_RDWR | n, 0);
		if (fd < 0 || same(argv[1], "open") || same(argv[1], "open-nonblock"))
			answer(fd);
	}
	put("held\n");
	for (;;)
		call(PAUSE, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n");
