# Process 1 of a room: a new pid, mount and network namespace. It furnishes the mount namespace from a folder of the
# lab, says "ready PID" and then waits for the end of its standard input. When it ends, the kernel ends every process
# of the room and drops every mount; so a test that is killed leaves nothing running.
#
# usage: holder.sh LAB ROOM; LAB/rooms/ROOM/distribution names a folder whose usr is to be shown as /usr,
# LAB/rooms/ROOM/tools one that is to be shown as /opt
set -eu
lab=$1
room=$lab/rooms/$2

# Seen through the outer /proc: the pid by which nsenter(1) finds this room.
read -r pid rest < /proc/self/stat
mount -n -t proc proc /proc

# /run is mounted noexec on Debian; homes and tools of the room must run programs.
mount -n --bind "$lab" /mnt
mount -n -o remount,bind,exec,dev,suid /mnt
room=/mnt/rooms/$2

# A /dev of its own, so that /dev/log can be the lab's.
for device in null zero full random urandom tty; do
    : > "$room/dev/$device"
    mount -n --bind "/dev/$device" "$room/dev/$device"
done
mount -n -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$room/dev/pts"
mount -n -t tmpfs -o mode=1777 tmpfs "$room/dev/shm"

# Another distribution's programs; from here on they are this script's, too.
if [ -e "$room/distribution" ]; then
    read -r distribution < "$room/distribution"
    mount -n --bind "$distribution/usr" /usr
    mount -n -o remount,bind,ro /usr
fi

# Before /root and /home are covered, where the build cache may be.
if [ -e "$room/tools" ]; then
    read -r tools < "$room/tools"
    mount -n --bind "$tools" /opt
fi

for folder in etc home root tmp var; do
    mount -n --rbind "$room/$folder" "/$folder"
done
mount -n --rbind "$room/bin" /usr/local/bin
mount -n --rbind "$room/dev" /dev
if [ -d "$room/sys" ]; then
    mount -n --rbind "$room/sys" /sys
fi

# A /run of its own, with the lab at its usual place in it.
mount -n -t tmpfs -o mode=755,nosuid tmpfs /run
mkdir -p "$lab"
mount -n --move /mnt "$lab"
mkdir -m 755 /run/sshd /run/user /run/lock

# From here on nothing of the machine can be written, only what is the room's.
mount -n -o remount,bind,ro /

echo "ready $pid"
cat > /dev/null
