// SPDX-License-Identifier: GPL-2.0
/* The stand-in for nvidia-uvm: a major number of its own, and nodes that open. */
#include <linux/fs.h>
#include <linux/module.h>

#include "stand-in.h"

static unsigned int uvm_major;
module_param(uvm_major, uint, 0444);
MODULE_PARM_DESC(uvm_major, "major number of nvidia-uvm (0: any free one)");

static int uvm_open(struct inode *inode, struct file *file)
{
	return 0;
}

static const struct file_operations uvm_fops = {
	.owner = THIS_MODULE,
	.open = uvm_open,
};

static int __init uvm_init(void)
{
	int ret = nvidia_stand_in() ?: __register_chrdev(uvm_major, 0, 2, "nvidia-uvm", &uvm_fops);

	if (ret < 0)
		return ret;
	if (!uvm_major)
		uvm_major = ret;
	return 0;
}

static void __exit uvm_exit(void)
{
	__unregister_chrdev(uvm_major, 0, 2, "nvidia-uvm");
}

module_init(uvm_init);
module_exit(uvm_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stand-in for NVIDIA's nvidia-uvm");
