/* What a process in the container sees at a path, and whether it may open it.
 *
 *   probe open PATH              one line: what open(2) for reading and writing says
 *   probe stat PATH              one line: type, mode, owner, device number
 *   probe mknod PATH MAJOR MINOR one line: what mknod(2) says
 *
 * Static, since the container has no C library. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int say(int failed)
{
	if (!failed)
		puts("OK");
	else if (strerrorname_np(errno))
		puts(strerrorname_np(errno));
	else
		printf("errno %d\n", errno);
	return 0;
}

int main(int argc, char **argv)
{
	struct stat st;

	if (argc == 3 && !strcmp(argv[1], "open")) {
		/* a regular file where a node should be opens, and is of no use */
		if (!stat(argv[2], &st) && S_ISREG(st.st_mode)) {
			printf("regular %04o\n", st.st_mode & 07777);
			return 0;
		}
		return say(open(argv[2], O_RDWR | O_NONBLOCK | O_NOCTTY) < 0);
	}
	if (argc == 3 && !strcmp(argv[1], "stat")) {
		if (stat(argv[2], &st))
			return say(1);
		printf("%c %04o %u %u %u %u\n",
		       S_ISCHR(st.st_mode) ? 'c' : S_ISBLK(st.st_mode) ? 'b' :
		       S_ISREG(st.st_mode) ? '-' : S_ISDIR(st.st_mode) ? 'd' : '?',
		       st.st_mode & 07777, st.st_uid, st.st_gid,
		       major(st.st_rdev), minor(st.st_rdev));
		return 0;
	}
	if (argc == 5 && !strcmp(argv[1], "mknod"))
		return say(mknod(argv[2], S_IFCHR | 0666,
				 makedev(atoi(argv[3]), atoi(argv[4]))));
	fputs("usage: probe open|stat PATH, probe mknod PATH MAJOR MINOR\n", stderr);
	return 2;
}
