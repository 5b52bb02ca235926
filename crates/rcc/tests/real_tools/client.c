/* A client as a static Go program is one: no C library resolver, no nsswitch, no proxy settings. It reads the name server
 * from /etc/resolv.conf, asks for an A and an AAAA record over UDP itself, connects, and prints the first line of an
 * HTTP answer for each family.
 *
 * usage: client NAME PORT
 * A line for each step that failed: "FAMILY dns rcode N" or "FAMILY STEP: errno text". The exit code is the number of
 * families that failed. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int failed(const char *family, const char *step)
{
	printf("%s %s: %s\n", family, step, strerror(errno));
	return 1;
}

/* The address of the first record of this type, or -1 with errno, or the response code. */
static int ask(const char *server, const char *name, int type, void *address, size_t size)
{
	unsigned char message[512] = {0x12, 0x34, 1, 0, 0, 1};
	size_t at = 12;
	for (const char *label = name; *label;) {
		size_t length = strcspn(label, ".");
		message[at++] = (unsigned char)length;
		memcpy(message + at, label, length);
		at += length;
		label += length + (label[length] == '.');
	}
	at++;
	message[at + 1] = (unsigned char)type;
	message[at + 3] = 1;
	at += 4;
	size_t question = at;

	struct sockaddr_in resolver = {.sin_family = AF_INET, .sin_port = htons(53)};
	inet_pton(AF_INET, server, &resolver.sin_addr);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct timeval limit = {.tv_sec = 5};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (sendto(fd, message, at, 0, (struct sockaddr *)&resolver, sizeof resolver) < 0)
		return -1;
	ssize_t got = recv(fd, message, sizeof message, 0);
	close(fd);
	if (got < (ssize_t)question)
		return -1;
	if (message[3] & 15)
		return message[3] & 15;
	/* The gateway answers with one record whose owner is a pointer: 12 bytes, then the address. */
	if (message[7] < 1 || (size_t)got < question + 12 + size || message[question] < 0xc0)
		return 255;
	memcpy(address, message + question + 12, size);
	return 0;
}

static int fetch(const char *family, struct sockaddr *address, socklen_t size, const char *name)
{
	char text[1024];
	int fd = socket(address->sa_family, SOCK_STREAM, 0);
	if (fd < 0)
		return failed(family, "socket");
	if (connect(fd, address, size) < 0)
		return failed(family, "connect");
	int length = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name);
	if (write(fd, text, (size_t)length) != length)
		return failed(family, "write");
	ssize_t got = read(fd, text, sizeof text - 1);
	if (got <= 0)
		return failed(family, "read");
	text[got] = 0;
	text[strcspn(text, "\r\n")] = 0;
	printf("%s %s\n", family, text);
	close(fd);
	return 0;
}

int main(int count, char **words)
{
	char line[256], server[64] = "";
	FILE *conf = fopen("/etc/resolv.conf", "r");
	while (conf && !server[0] && fgets(line, sizeof line, conf))
		sscanf(line, "nameserver %63s", server);
	if (count != 3 || !server[0])
		return 100;
	unsigned short port = htons((unsigned short)atoi(words[2]));
	int code, bad = 0;

	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
	/* A literal goes to its address without a question. */
	code = inet_pton(AF_INET, words[1], &v4.sin_addr) == 1 ? 0 : ask(server, words[1], 1, &v4.sin_addr, 4);
	if (code) {
		printf("ipv4 dns rcode %d\n", code);
		bad++;
	} else
		bad += fetch("ipv4", (struct sockaddr *)&v4, sizeof v4, words[1]);

	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port};
	code = inet_pton(AF_INET, words[1], line) == 1 ? 254 : ask(server, words[1], 28, &v6.sin6_addr, 16);
	if (code) {
		printf("ipv6 dns rcode %d\n", code);
		bad++;
	} else
		bad += fetch("ipv6", (struct sockaddr *)&v6, sizeof v6, words[1]);
	return bad;
}
