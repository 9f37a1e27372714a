// SPDX-License-Identifier: GPL-2.0
/*
 * A stand-in for NVIDIA's kernel module, for tests: it makes emulated PCI functions look like NVIDIA
 * cards and shows the interfaces of the real driver that tools read, write and hang on: device nodes
 * with a usage count, remove() that waits for it, /proc/driver/nvidia, and the vGPU files of
 * virtual functions. There is no GPU behind any of it.
 *
 * Its attributes and texts are what the open kernel modules 550.163.01 showed in this lab (tests/lab/real), the usage
 * count's wait and unbindLock follow their source (nv-pci.c, nv-procfs.c). As there, nvidia-uvm and nvidia-modeset are
 * modules of their own.
 */
#include <linux/cdev.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "stand-in.h"

#define NV_VENDOR 0x10de
#define NV_GEFORCE 0x2204 /* RTX 3090 */
#define NV_L40S 0x26b9 /* stands for every card with SR-IOV */
#define NV_AUDIO 0x1aef
/* 3D controller. Not VGA (0x030000): the VGA arbiter saw the function with its old class and knows
 * nothing of it, so that vfio-pci's probe would fail. */
#define NV_CLASS 0x030200

#ifndef NV_VERSION
#define NV_VERSION "550.163.01"
#endif

#define NV_MAJOR 195
#define NV_MODESET_MINOR 254 /* nvidia-modeset.c has it */
#define NV_CTL_MINOR 255
#define NV_MAX_GPUS 16
#define NV_CAPS 4324 /* the last is fabric-imex-mgmt */

static char *gpus[NV_MAX_GPUS];
static int gpus_given;
module_param_array(gpus, charp, &gpus_given, 0444);
MODULE_PARM_DESC(gpus, "functions to disguise: DDDD:BB:DD.F,...");

static unsigned int caps_major;
module_param(caps_major, uint, 0444);
MODULE_PARM_DESC(caps_major, "major number of nvidia-caps (0: any free one)");

static bool hardware;
module_param(hardware, bool, 0444);
MODULE_PARM_DESC(hardware, "only disguise the functions: a machine as its firmware hands it over, without the driver");

static bool uninitialized;
module_param(uninitialized, bool, 0444);
MODULE_PARM_DESC(uninitialized, "no GPU can be initialised: what opens its node gets EIO");

static bool vgpu_host;
module_param(vgpu_host, bool, 0444);
MODULE_PARM_DESC(vgpu_host, "as the module of a vGPU host: unbindLock is there");

static bool mig;
module_param(mig, bool, 0444);
MODULE_PARM_DESC(mig, "the first GPU has MIG instance 2/0");

/* ---- the GPUs ------------------------------------------------------------------------------- */

struct gpu {
	struct pci_dev *pdev;
	int minor;
	int usage;
	bool going; /* remove() has begun */
	bool locked; /* unbindLock was granted */
	bool late; /* somebody will have it when remove() begins */
	struct proc_dir_entry *proc;
};

static DEFINE_MUTEX(gpus_lock); /* the table, and everything in a struct gpu */
static struct gpu *gpu_by_minor[NV_MAX_GPUS];

static bool is_chosen(struct pci_dev *pdev)
{
	int i;

	for (i = 0; i < gpus_given; i++)
		if (!strcmp(gpus[i], pci_name(pdev)))
			return true;
	return false;
}

static int gpu_take(int minor)
{
	struct gpu *gpu;
	int ret = -ENODEV;

	mutex_lock(&gpus_lock);
	gpu = minor < NV_MAX_GPUS ? gpu_by_minor[minor] : NULL;
	if (gpu && !gpu->going && !gpu->locked) {
		gpu->usage++;
		ret = 0;
	}
	mutex_unlock(&gpus_lock);
	return ret;
}

static void gpu_drop(int minor)
{
	struct gpu *gpu;

	mutex_lock(&gpus_lock);
	gpu = minor < NV_MAX_GPUS ? gpu_by_minor[minor] : NULL;
	if (gpu) {
		gpu->late = false;
		if (gpu->usage > 0)
			gpu->usage--;
	}
	mutex_unlock(&gpus_lock);
}

/* Legacy persistence mode holds a GPU with no file open. Here: write a minor to "hold", later to
 * "release", in /sys/module/nvidia/parameters. */
static int hold_set(const char *val, const struct kernel_param *kp)
{
	int minor, ret = kstrtoint(val, 10, &minor);

	return ret ? ret : minor < 0 ? -EINVAL : gpu_take(minor);
}

static int release_set(const char *val, const struct kernel_param *kp)
{
	int minor, ret = kstrtoint(val, 10, &minor);

	if (!ret && minor >= 0)
		gpu_drop(minor);
	return ret;
}

/* Somebody opens the GPU after all checks said that it is idle, just before remove() looks: write a minor to
 * "hold_late", and to "release" to end it. */
static int hold_late_set(const char *val, const struct kernel_param *kp)
{
	int minor, ret = kstrtoint(val, 10, &minor);

	if (ret || minor < 0 || minor >= NV_MAX_GPUS)
		return -EINVAL;
	mutex_lock(&gpus_lock);
	if (gpu_by_minor[minor])
		gpu_by_minor[minor]->late = true;
	else
		ret = -ENODEV;
	mutex_unlock(&gpus_lock);
	return ret;
}

static const struct kernel_param_ops hold_late_ops = { .set = hold_late_set };
static const struct kernel_param_ops hold_ops = { .set = hold_set };
static const struct kernel_param_ops release_ops = { .set = release_set };
module_param_cb(hold, &hold_ops, NULL, 0200);
module_param_cb(hold_late, &hold_late_ops, NULL, 0200);
module_param_cb(release, &release_ops, NULL, 0200);

/* ---- device nodes --------------------------------------------------------------------------- */

/* A GPU is initialised when it is opened. With O_NONBLOCK that is put off, and open(2) succeeds whatever comes of it. */
static int gpu_open(struct inode *inode, struct file *file)
{
	int ret = gpu_take(iminor(inode));

	if (ret || !uninitialized)
		return ret;
	gpu_drop(iminor(inode));
	pr_err("NVRM: GPU %d: RmInitAdapter failed! (0x22:0x56:884)\n", iminor(inode));
	return file->f_flags & O_NONBLOCK ? 0 : -EIO;
}

static int gpu_release(struct inode *inode, struct file *file)
{
	if (!uninitialized)
		gpu_drop(iminor(inode));
	return 0;
}

static int other_open(struct inode *inode, struct file *file)
{
	return 0;
}

static const struct file_operations gpu_fops = {
	.owner = THIS_MODULE,
	.open = gpu_open,
	.release = gpu_release,
};
static const struct file_operations other_fops = {
	.owner = THIS_MODULE,
	.open = other_open,
};

struct region {
	const char *name;
	unsigned int major, first, count;
	const struct file_operations *fops;
};

static struct region regions[] = {
	{ "nvidia", NV_MAJOR, 0, NV_MODESET_MINOR, &gpu_fops },
	{ "nvidiactl", NV_MAJOR, NV_CTL_MINOR, 1, &other_fops },
	{ "nvidia-caps", 0, 0, NV_CAPS, &other_fops },
	{ "nvidia-caps-imex-channels", 0, 0, 2048, &other_fops },
	{ "nvidia-nvlink", 0, 0, 1, &other_fops },
	{ "nvidia-nvswitch", 0, 0, 256, &other_fops },
};

static void regions_remove(int n)
{
	while (n-- > 0)
		__unregister_chrdev(regions[n].major, regions[n].first, regions[n].count, regions[n].name);
}

static int regions_add(void)
{
	int i, ret;

	regions[2].major = caps_major;
	for (i = 0; i < ARRAY_SIZE(regions); i++) {
		struct region *r = &regions[i];

		ret = __register_chrdev(r->major, r->first, r->count, r->name, r->fops);
		if (ret < 0) {
			regions_remove(i);
			return ret;
		}
		if (!r->major)
			r->major = ret;
	}
	return 0;
}

/* ---- /proc/driver/nvidia -------------------------------------------------------------------- */

static struct proc_dir_entry *proc_top, *proc_gpus, *proc_caps, *proc_nvlink, *proc_nvswitch;

static int text_show(struct seq_file *s, void *unused)
{
	seq_puts(s, s->private);
	return 0;
}

static void text(const char *name, umode_t mode, struct proc_dir_entry *dir, const char *content)
{
	proc_create_single_data(name, mode, dir, text_show, (void *)content);
}

static const char version_text[] =
	"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  " NV_VERSION "  Release Build  (buildd@debian)  "
	"Mon Jul 21 21:45:24 UTC 2025\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1) \n";
static const char params_text[] =
	"ResmanDebugLevel: 4294967295\nRmLogonRC: 1\nModifyDeviceFiles: 1\n"
	"DeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n"
	"InitializeSystemMemoryAllocations: 1\nUsePageAttributeTable: 4294967295\nEnableMSI: 1\nEnablePCIeGen3: 0\n"
	"MemoryPoolSize: 0\nKMallocHeapMaxSize: 0\nVMallocHeapMaxSize: 0\nIgnoreMMIOCheck: 0\nTCEBypassMode: 0\n"
	"EnableStreamMemOPs: 0\nEnableUserNUMAManagement: 1\nNvLinkDisable: 0\nRmProfilingAdminOnly: 1\n"
	"PreserveVideoMemoryAllocations: 0\nEnableS0ixPowerManagement: 0\n"
	"S0ixPowerManagementVideoMemoryThreshold: 256\nDynamicPowerManagement: 3\n"
	"DynamicPowerManagementVideoMemoryThreshold: 200\nRegisterPCIDriver: 1\n"
	"EnablePCIERelaxedOrderingMode: 0\nEnableResizableBar: 0\nEnableGpuFirmware: 18\nEnableGpuFirmwareLogs: 2\n"
	"EnableDbgBreakpoint: 0\nOpenRmEnableUnsupportedGpus: 1\nDmaRemapPeerMmio: 1\nImexChannelCount: 2048\n"
	"RegistryDwords: \"\"\nRegistryDwordsPerDevice: \"\"\nRmMsg: \"\"\nGpuBlacklist: \"\"\n"
	"TemporaryFilePath: \"\"\nExcludedGpus: \"\"\n";
static const char power_text[] =
	"Runtime D3 status:          ?\nVideo Memory:               ?\n\nGPU Hardware Support:\n"
	" Video Memory Self Refresh: ?\n Video Memory Off:          ?\n";
static const char registry_text[] = "Binary: \"\"\n";

static const char *capability(int minor, int mode)
{
	static char texts[8][80];
	static int used;
	char *made = texts[used++ % ARRAY_SIZE(texts)];

	snprintf(made, sizeof(texts[0]), "DeviceFileMinor: %d\nDeviceFileMode: %d\nDeviceFileModify: 1\n", minor, mode);
	return made;
}

/* As the driver does, every instance that could be has its numbers; one is there. */
static int minors_show(struct seq_file *s, void *unused)
{
	int gi, ci;

	seq_puts(s, "config 1\nmonitor 2\n");
	for (gi = 0; gi < 15; gi++) {
		seq_printf(s, "gpu0/gi%d/access %d\n", gi, 3 + 9 * gi);
		for (ci = 0; ci < 8; ci++)
			seq_printf(s, "gpu0/gi%d/ci%d/access %d\n", gi, ci, 4 + 9 * gi + ci);
	}
	return 0;
}

static const char *model_of(unsigned short device)
{
	switch (device) {
	case NV_L40S: return "NVIDIA L40S";
	case 0x1e07: return "NVIDIA GeForce RTX 2080 Ti";
	default: return "NVIDIA GeForce RTX 3090";
	}
}

static int information_show(struct seq_file *s, void *unused)
{
	struct gpu *gpu = s->private;
	struct pci_dev *pdev = gpu->pdev;

	seq_printf(s, "Model: \t\t %s\n", model_of(pdev->device));
	seq_printf(s, "IRQ:   \t\t %d\n", pdev->irq);
	if (uninitialized)
		seq_puts(s, "GPU UUID: \t GPU-????????-????-????-????-????????????\nVideo BIOS: \t ??.??.??.??.??\n");
	else
		seq_printf(s, "GPU UUID: \t GPU-%08x-0000-4000-8000-%012x\nVideo BIOS: \t 94.02.42.00.b4\n",
			   pci_dev_id(pdev), pci_domain_nr(pdev->bus));
	seq_puts(s, "Bus Type: \t PCIe\n");
	seq_puts(s, uninitialized ? "DMA Size: \t 36 bits\nDMA Mask: \t 0xfffffffff\n" :
				    "DMA Size: \t 47 bits\nDMA Mask: \t 0x7fffffffffff\n");
	seq_printf(s, "Bus Location: \t %s\n", pci_name(pdev));
	seq_printf(s, "Device Minor: \t %u\n", gpu->minor);
	seq_puts(s, "GPU Firmware: \t N/A\n");
	seq_puts(s, "GPU Excluded:\t No\n");
	return 0;
}

static int unbind_lock_show(struct seq_file *s, void *unused)
{
	struct gpu *gpu = s->private;

	seq_printf(s, "%d\n", gpu->locked);
	return 0;
}

static int unbind_lock_open(struct inode *inode, struct file *file)
{
	return single_open(file, unbind_lock_show, pde_data(inode));
}

/* A write is only remembered; the request is carried out when the file is closed. */
#define ASKED_0 ((loff_t)1)
#define ASKED_1 ((loff_t)2)
static ssize_t unbind_lock_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	struct seq_file *s = file->private_data;
	char c;

	if (!len || get_user(c, buf))
		return -EINVAL;
	s->read_pos = c == '1' ? ASKED_1 : c == '0' ? ASKED_0 : 0;
	return len;
}

static int unbind_lock_release(struct inode *inode, struct file *file)
{
	struct seq_file *s = file->private_data;
	struct gpu *gpu = pde_data(inode);

	if (file->f_mode & FMODE_WRITE) {
		mutex_lock(&gpus_lock);
		if (s->read_pos == ASKED_1 && gpu->usage == 0)
			gpu->locked = true;
		else if (s->read_pos == ASKED_0)
			gpu->locked = false;
		mutex_unlock(&gpus_lock);
	}
	return single_release(inode, file);
}

static const struct proc_ops unbind_lock_ops = {
	.proc_open = unbind_lock_open,
	.proc_read = seq_read,
	.proc_write = unbind_lock_write,
	.proc_lseek = seq_lseek,
	.proc_release = unbind_lock_release,
};

static int proc_add(void)
{
	struct proc_dir_entry *caps, *dir;

	proc_top = proc_mkdir("driver/nvidia", NULL);
	proc_caps = proc_mkdir("driver/nvidia-caps", NULL);
	proc_nvlink = proc_mkdir("driver/nvidia-nvlink", NULL);
	proc_nvswitch = proc_mkdir("driver/nvidia-nvswitch", NULL);
	if (!proc_top || !proc_caps || !proc_nvlink || !proc_nvswitch)
		return -ENOMEM;
	text("version", 0444, proc_top, version_text);
	text("params", 0444, proc_top, params_text);
	text("registry", 0644, proc_top, registry_text);
	text("suspend", 0644, proc_top, "suspend hibernate resume\n");
	text("suspend_depth", 0644, proc_top, "default modeset uvm\n");
	text("README", 0444, proc_mkdir("patches", proc_top), "");
	text("README", 0444, proc_mkdir("warnings", proc_top), "");
	proc_gpus = proc_mkdir("gpus", proc_top);
	caps = proc_mkdir("capabilities", proc_top);
	dir = proc_mkdir("mig", caps);
	text("config", 0444, dir, capability(1, 256));
	text("monitor", 0444, dir, capability(2, 292));
	text("fabric-imex-mgmt", 0444, caps, capability(4323, 256));
	if (mig) {
		dir = proc_mkdir("gi2", proc_mkdir("mig", proc_mkdir("gpu0", caps)));
		text("access", 0444, dir, capability(21, 292));
		text("access", 0444, proc_mkdir("ci0", dir), capability(22, 292));
	}
	proc_create_single("mig-minors", 0444, proc_caps, minors_show);
	text("nvlink-minors", 0444, proc_caps, "fabric-mgmt 0\n");
	text("sys-minors", 0444, proc_caps, "fabric-imex-mgmt 4323\n");
	text("permissions", 0444, proc_nvlink, "DeviceFileMinor: 0\n");
	text("permissions", 0444, proc_nvswitch, "DeviceFileMinor: 255\n");
	return 0;
}

static void proc_take_away(void)
{
	proc_remove(proc_nvswitch);
	proc_remove(proc_nvlink);
	proc_remove(proc_caps);
	proc_remove(proc_top);
}

/* ---- vGPU files of a virtual function ------------------------------------------------------- */

struct vgpu_type {
	long id;
	int gib;
	const char *name;
};

static const struct vgpu_type vgpu_types[] = {
	{ 1145, 1, "NVIDIA L40S-1B" },	{ 1147, 1, "NVIDIA L40S-1Q" },	 { 1148, 2, "NVIDIA L40S-2Q" },
	{ 1150, 4, "NVIDIA L40S-4Q" },	{ 1155, 24, "NVIDIA L40S-24Q" }, { 1156, 48, "NVIDIA L40S-48Q" },
};
#define CARD_GIB 48

struct vf {
	struct list_head list;
	struct pci_dev *pdev;
	const struct vgpu_type *type;
};

static LIST_HEAD(vfs);
static DEFINE_MUTEX(vfs_lock);

/* One framebuffer size a card, and no more of it than there is. Called with vfs_lock held. */
static bool vgpu_fits(struct vf *vf, const struct vgpu_type *type)
{
	struct vf *other;
	int used = 0;

	list_for_each_entry(other, &vfs, list) {
		if (other->pdev->physfn != vf->pdev->physfn || !other->type)
			continue;
		if (other->type->gib != type->gib)
			return false;
		used += other->type->gib;
	}
	return used + type->gib <= CARD_GIB;
}

static ssize_t creatable_vgpu_types_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vf *vf = dev_get_drvdata(dev);
	int i, len = 0;

	mutex_lock(&vfs_lock);
	if (!vf->type) {
		len += sysfs_emit_at(buf, len, "ID    : vGPU Name\n");
		for (i = 0; i < ARRAY_SIZE(vgpu_types); i++)
			if (vgpu_fits(vf, &vgpu_types[i]))
				len += sysfs_emit_at(buf, len, "%-5ld : %s\n", vgpu_types[i].id, vgpu_types[i].name);
	}
	mutex_unlock(&vfs_lock);
	return len;
}

static ssize_t current_vgpu_type_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vf *vf = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%ld\n", vf->type ? vf->type->id : 0L);
}

static ssize_t current_vgpu_type_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	struct vf *vf = dev_get_drvdata(dev);
	ssize_t ret = count;
	long id;
	int i;

	if (kstrtol(buf, 10, &id))
		return -EINVAL;
	mutex_lock(&vfs_lock);
	if (!id) {
		if (vf->type)
			vf->type = NULL;
		else
			ret = -EPERM;
	} else if (vf->type) {
		ret = -EPERM;
	} else {
		ret = -EIO;
		for (i = 0; i < ARRAY_SIZE(vgpu_types); i++) {
			if (vgpu_types[i].id == id && vgpu_fits(vf, &vgpu_types[i])) {
				vf->type = &vgpu_types[i];
				ret = count;
			}
		}
		if (ret == -EIO)
			pr_err("NVRM: Failed to add vgpu create request: 0x38\n");
	}
	mutex_unlock(&vfs_lock);
	return ret;
}

static ssize_t of_a_vgpu(struct device *dev, char *buf)
{
	struct vf *vf = dev_get_drvdata(dev);

	return vf->type ? sysfs_emit(buf, "0\n") : -ENXIO;
}

static ssize_t placement_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return of_a_vgpu(dev, buf);
}

static ssize_t gpu_instance_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return of_a_vgpu(dev, buf);
}

static DEVICE_ATTR_RO(creatable_vgpu_types);
static DEVICE_ATTR_RW(current_vgpu_type);
static DEVICE_ATTR_RO(placement_id);
static DEVICE_ATTR_RO(gpu_instance_id);

static struct attribute *vf_attrs[] = {
	&dev_attr_creatable_vgpu_types.attr,
	&dev_attr_current_vgpu_type.attr,
	&dev_attr_placement_id.attr,
	&dev_attr_gpu_instance_id.attr,
	NULL,
};
static const struct attribute_group vf_group = { .name = "nvidia", .attrs = vf_attrs };

static int vf_probe(struct pci_dev *pdev)
{
	struct vf *vf = kzalloc(sizeof(*vf), GFP_KERNEL);
	int ret;

	if (!vf)
		return -ENOMEM;
	vf->pdev = pdev;
	pci_set_drvdata(pdev, vf);
	mutex_lock(&vfs_lock);
	list_add_tail(&vf->list, &vfs);
	mutex_unlock(&vfs_lock);
	ret = sysfs_create_group(&pdev->dev.kobj, &vf_group);
	if (ret) {
		mutex_lock(&vfs_lock);
		list_del(&vf->list);
		mutex_unlock(&vfs_lock);
		kfree(vf);
	}
	return ret;
}

static void vf_remove(struct pci_dev *pdev)
{
	struct vf *vf = pci_get_drvdata(pdev);

	sysfs_remove_group(&pdev->dev.kobj, &vf_group);
	mutex_lock(&vfs_lock);
	list_del(&vf->list);
	mutex_unlock(&vfs_lock);
	kfree(vf);
}

/* ---- the PCI driver ------------------------------------------------------------------------- */

static int probed;

static int nv_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct gpu *gpu;
	int minor;

	if (pdev->is_virtfn)
		return vf_probe(pdev);
	gpu = kzalloc(sizeof(*gpu), GFP_KERNEL);
	if (!gpu)
		return -ENOMEM;
	gpu->pdev = pdev;
	mutex_lock(&gpus_lock);
	for (minor = 0; minor < NV_MAX_GPUS && gpu_by_minor[minor]; minor++)
		;
	if (minor == NV_MAX_GPUS) {
		mutex_unlock(&gpus_lock);
		kfree(gpu);
		return -ENOSPC;
	}
	gpu->minor = minor;
	gpu_by_minor[minor] = gpu;
	mutex_unlock(&gpus_lock);
	probed++;
	pci_set_drvdata(pdev, gpu);
	gpu->proc = proc_mkdir(pci_name(pdev), proc_gpus);
	if (gpu->proc) {
		proc_create_single_data("information", 0444, gpu->proc, information_show, gpu);
		text("power", 0444, gpu->proc, power_text);
		text("registry", 0644, gpu->proc, registry_text);
		if (vgpu_host)
			proc_create_data("unbindLock", 0644, gpu->proc, &unbind_lock_ops, gpu);
	}
	return 0;
}

static void nv_remove(struct pci_dev *pdev)
{
	struct gpu *gpu;

	if (pdev->is_virtfn) {
		vf_remove(pdev);
		return;
	}
	gpu = pci_get_drvdata(pdev);
	mutex_lock(&gpus_lock);
	gpu->going = true;
	if (gpu->late)
		gpu->usage++;
	if (gpu->usage) {
		pr_err("NVRM: Attempting to remove device %s with non-zero usage count!\n", pci_name(pdev));
		/* As os_delay() there: an interruptible sleep whose end nobody looks at. With a signal pending that is not
		 * ignored it returns at once, and the loop spins. */
		while (gpu->usage) {
			mutex_unlock(&gpus_lock);
			msleep_interruptible(500);
			mutex_lock(&gpus_lock);
		}
		pr_err("NVRM: Continuing with GPU removal for device %s\n", pci_name(pdev));
	}
	gpu_by_minor[gpu->minor] = NULL;
	mutex_unlock(&gpus_lock);
	proc_remove(gpu->proc);
	kfree(gpu);
}

static const struct pci_device_id nv_ids[] = {
	{ PCI_DEVICE(NV_VENDOR, PCI_ANY_ID), .class = 0x030000, .class_mask = ~0 },
	{ PCI_DEVICE(NV_VENDOR, PCI_ANY_ID), .class = 0x030200, .class_mask = ~0 },
	{}
};
MODULE_DEVICE_TABLE(pci, nv_ids);

/* As the real one: no sriov_configure, so that a plain write to sriov_numvfs is refused. */
static struct pci_driver nv_driver = {
	.name = "nvidia",
	.id_table = nv_ids,
	.probe = nv_probe,
	.remove = nv_remove,
};

/* ---- the disguise --------------------------------------------------------------------------- */

static void look_like(struct pci_dev *pdev, unsigned short device, unsigned int class)
{
	pdev->vendor = NV_VENDOR;
	pdev->device = device;
	pdev->subsystem_vendor = 0x1462;
	pdev->subsystem_device = 0x3884;
	pdev->class = class;
}

static int disguise(const char *address)
{
	unsigned int domain, bus, slot, function, i;
	struct pci_dev *pdev, *other;

	if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
	if (!pdev) {
		pr_err("nvidia: no function %s\n", address);
		return -ENODEV;
	}
	/* not when it is disguised already (loaded again): whoever has it may keep it */
	if (pdev->vendor != NV_VENDOR) {
		device_release_driver(&pdev->dev);
		look_like(pdev, pci_sriov_get_totalvfs(pdev) ? NV_L40S : NV_GEFORCE, NV_CLASS);
	}
	for (i = 0; i < 8; i++) {
		other = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, i));
		if (!other)
			continue;
		if (other->class >> 8 == PCI_CLASS_MULTIMEDIA_HD_AUDIO && other->vendor != NV_VENDOR) {
			device_release_driver(&other->dev);
			look_like(other, NV_AUDIO, other->class);
			if (device_attach(&other->dev) < 0)
				pr_err("nvidia: no driver takes %s\n", pci_name(other));
		}
		pci_dev_put(other);
	}
	pci_dev_put(pdev);
	return 0;
}

/* New virtual functions of a disguised card, before any driver or udev sees them. */
static int on_pci(struct notifier_block *nb, unsigned long action, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	if (action == BUS_NOTIFY_ADD_DEVICE && pdev->is_virtfn && is_chosen(pdev->physfn))
		look_like(pdev, pdev->physfn->device, NV_CLASS);
	return NOTIFY_DONE;
}

static struct notifier_block pci_watch = { .notifier_call = on_pci };

static int __init nv_init(void)
{
	int i, ret;

	if (hardware) {
		for (i = 0, ret = 0; i < gpus_given && !ret; i++)
			ret = disguise(gpus[i]);
		return ret;
	}
	ret = regions_add();
	if (ret)
		return ret;
	ret = proc_add();
	if (ret)
		goto no_proc;
	for (i = 0; i < gpus_given; i++) {
		ret = disguise(gpus[i]);
		if (ret)
			goto no_driver;
	}
	bus_register_notifier(&pci_bus_type, &pci_watch);
	ret = pci_register_driver(&nv_driver);
	if (!ret && probed)
		return 0;
	if (!ret) {
		pr_err("NVRM: No NVIDIA GPU found.\n");
		pci_unregister_driver(&nv_driver);
		ret = -ENODEV;
	}
	bus_unregister_notifier(&pci_bus_type, &pci_watch);
no_driver:
no_proc:
	proc_take_away();
	regions_remove(ARRAY_SIZE(regions));
	return ret;
}

static void __exit nv_exit(void)
{
	if (hardware)
		return;
	pci_unregister_driver(&nv_driver);
	bus_unregister_notifier(&pci_bus_type, &pci_watch);
	proc_take_away();
	regions_remove(ARRAY_SIZE(regions));
}

int nvidia_stand_in(void)
{
	return 0;
}
EXPORT_SYMBOL(nvidia_stand_in);

MODULE_ALIAS_CHARDEV_MAJOR(NV_MAJOR);
module_init(nv_init);
module_exit(nv_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Stand-in for NVIDIA's driver, for tests without a GPU");
MODULE_VERSION(NV_VERSION);
