/* Loaded into a server's processes before the C library: while the file that SLOW_DISK names is there, every read and
 * write at a place of a file takes this much longer, as on a disk that is too slow. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MICROSECONDS 20000

static void wait_for_the_disk(void)
{
    const char *file = getenv("SLOW_DISK");
    if (file != NULL && access(file, F_OK) == 0)
        usleep(MICROSECONDS);
}

#define SLOWER(result, name, parameters, arguments)                \
    result name parameters                                         \
    {                                                              \
        static result (*next) parameters;                          \
        if (next == NULL)                                          \
            next = (result (*) parameters) dlsym(RTLD_NEXT, #name); \
        wait_for_the_disk();                                       \
        return next arguments;                                     \
    }

SLOWER(ssize_t, pread, (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
SLOWER(ssize_t, pread64, (int fd, void *to, size_t size, off64_t at), (fd, to, size, at))
SLOWER(ssize_t, preadv, (int fd, const struct iovec *to, int count, off_t at), (fd, to, count, at))
SLOWER(ssize_t, preadv64, (int fd, const struct iovec *to, int count, off64_t at), (fd, to, count, at))
SLOWER(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
SLOWER(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
SLOWER(ssize_t, pwritev, (int fd, const struct iovec *from, int count, off_t at), (fd, from, count, at))
SLOWER(ssize_t, pwritev64, (int fd, const struct iovec *from, int count, off64_t at), (fd, from, count, at))
