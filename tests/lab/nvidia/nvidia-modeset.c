// SPDX-License-Identifier: GPL-2.0
/* The stand-in for nvidia-modeset: minor 254 of nvidia's major number. */
#include <linux/fs.h>
#include <linux/module.h>

#include "stand-in.h"

#define NV_MAJOR 195
#define NV_MODESET_MINOR 254

static int modeset_open(struct inode *inode, struct file *file)
{
	return 0;
}

static const struct file_operations modeset_fops = {
	.owner = THIS_MODULE,
	.open = modeset_open,
};

static int __init modeset_init(void)
{
	return nvidia_stand_in() ?: __register_chrdev(NV_MAJOR, NV_MODESET_MINOR, 1, "nvidia-modeset", &modeset_fops);
}

static void __exit modeset_exit(void)
{
	__unregister_chrdev(NV_MAJOR, NV_MODESET_MINOR, 1, "nvidia-modeset");
}

module_init(modeset_init);
module_exit(modeset_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stand-in for NVIDIA's nvidia-modeset");
